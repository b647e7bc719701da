"""EIKD under its options: two ranks of uneven batches equal one process."""

import pytest
import torch

from graphkd import distributed
from graphkd.distillers.eikd.class_dropping import DatasetClasses, TopK
from graphkd.distillers.eikd.distiller import EIKDDistiller
from graphkd.features import Features

CLASSES = torch.arange(6) % 5 != 0
OPTIONS = [
    {},
    {"relation": "cosine_mean", "drop": TopK(3), "explicit": "features"},
    {"drop": DatasetClasses(CLASSES), "label_weight": 1.0},
]
ROWS = (slice(0, 5), slice(5, 8))


def outcome(options, rows):
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(8, width, generator=draw, dtype=torch.float64)[rows] for width in (4, 6, 4, 6)]
    embedding, logits = (value.requires_grad_() for value in values[:2])
    torch.manual_seed(0)  # of the projectors
    eikd = EIKDDistiller(4, 4, 6, **options).double()
    losses = eikd(Features(embedding=embedding, logits=logits), Features(embedding=values[2], logits=values[3]))
    losses.total.backward()
    found = {name: value.detach() for name, value in losses.items()}
    return found, {"embedding": embedding.grad, "logits": logits.grad}


def every_outcome():
    return [outcome(options, ROWS[distributed.rank()]) for options in OPTIONS]


@pytest.fixture(scope="module")
def ranks(on_ranks):
    return on_ranks(2, every_outcome)


@pytest.mark.parametrize("case", range(len(OPTIONS)), ids=lambda case: OPTIONS[case].get("relation", "defaults"))
def test_two_ranks_equal_one_process(ranks, same, case):
    losses, gradients = outcome(OPTIONS[case], slice(None))
    for rank, rows in zip(ranks, ROWS, strict=True):
        found, own = rank[case]
        for name, expected in losses.items():
            same(found[name], expected, name)
        for leaf, whole in gradients.items():
            same(own[leaf] / 2, whole[rows], f"the gradient of the student's {leaf}")
