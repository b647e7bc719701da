"""CRG under its options: two ranks of uneven batches equal one process."""

import pytest
import torch

from graphkd import distributed
from graphkd.distillers.crg.distiller import CRGDistiller
from graphkd.features import Features

OPTIONS = [
    {},
    {"spectral_form": "projector", "edge_affinity": "rbf"},
    {"edge_affinity": "unit_gram", "edge_alignment": "row_squares", "edge_attention": "off"},
]
ROWS = (slice(0, 2), slice(2, 3))


def outcome(options, rows):
    draw = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 8, 4, 4, dtype=torch.float64, generator=draw).relu()[rows] for _ in range(2)]
    x = maps[0].clone().requires_grad_()
    pair = Features(maps={"m": x}), Features(maps={"m": maps[1]})
    losses = CRGDistiller.between(*pair, k=3, **options)(*pair)
    (grad,) = torch.autograd.grad(losses.total, x)
    return {name: value.detach() for name, value in losses.items()}, grad


def every_outcome():
    return [outcome(options, ROWS[distributed.rank()]) for options in OPTIONS]


@pytest.fixture(scope="module")
def ranks(on_ranks):
    return on_ranks(2, every_outcome)


@pytest.mark.parametrize("case", range(len(OPTIONS)), ids=lambda case: " ".join(OPTIONS[case]))
def test_two_ranks_of_uneven_batches_equal_one_process(ranks, same, case):
    values, grad = outcome(OPTIONS[case], slice(None))
    for rank, rows in zip(ranks, ROWS, strict=True):
        found, own = rank[case]
        for name, expected in values.items():
            same(found[name], expected, name)
        same(own / 2, grad[rows], "the gradient of the student's maps")
