"""EIKD over two ranks with uneven batches equals one process, in value and in gradient."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.testing import assert_close

from graphkd.class_dropping import DatasetClasses, Mass, RandomClasses
from graphkd.distillers.eikd import EIKDDistiller
from graphkd.features import Features

CLASSES = torch.arange(6) % 5 != 0
OPTIONS = [
    {},
    {"relation": "cross", "drop": Mass(share=0.7)},
    {"relation": "infonce", "drop": RandomClasses(0.5)},
    {"relation": "rkd_angle", "explicit": "unit_features"},
    {"relation": "softmax", "keep_diagonal": False, "auto_weights": True},
    {"relation": "rkd_distance", "relation_input": "kept_logits", "drop": DatasetClasses(CLASSES), "label_weight": 1.0},
]
RANKS = (slice(0, 5), slice(5, 8))


def losses_and_gradients(rows, options):
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(8, width, generator=draw, dtype=torch.float64)[rows] for width in (4, 6, 4, 6)]
    embedding, logits = (value.requires_grad_() for value in values[:2])
    eikd = EIKDDistiller(4, 4, 6, **options)
    losses = eikd(Features(embedding=embedding, logits=logits), Features(embedding=values[2], logits=values[3]))
    losses.total.backward()
    return dict(losses), embedding.grad, logits.grad


def one_rank(rank, file):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    for options in OPTIONS:
        found = losses_and_gradients(RANKS[rank], options)
        torch.save(found, f"{file}.{OPTIONS.index(options)}.{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    mp.spawn(one_rank, args=(str(tmp_path / "meet"),), nprocs=2)
    for number, options in enumerate(OPTIONS):
        losses, *gradients = losses_and_gradients(slice(None), options)
        for rank, rows in enumerate(RANKS):
            found, *own = torch.load(tmp_path / f"meet.{number}.{rank}", weights_only=True)
            assert_close({k: v.detach() for k, v in found.items()}, {k: v.detach() for k, v in losses.items()})
            for mine, whole in zip(own, gradients, strict=True):
                assert_close(mine, 2 * whole[rows])
