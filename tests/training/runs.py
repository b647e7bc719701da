"""What a run left behind, compared."""

import torch

from graphkd.training.checkpoint import Checkpoints
from graphkd.training.run_folder import read_metrics

CLOCK = {"images_per_second"}


def weights(run):
    """Every tensor of the newest checkpoint: weights, moments, average, generators."""
    return Checkpoints(run / "checkpoints").newest()[1]


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            assert_same_state(value, b[key])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, b[key]), key
        elif key != "seconds":
            assert value == b[key], key


def lines(run):
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(run / "metrics.jsonl")]
