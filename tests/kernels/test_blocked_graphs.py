"""Neighbours in blocks, and the plans of everything that compares row by row."""

import pytest
import torch
from graphkd_kernels import dispatch, explain, reference
from graphkd_kernels._blocked import knn
from graphkd_kernels.plans import PLANNERS
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from tests.kernels.relational_cases import randn


def run(backend, operation, *args):
    with dispatch.backend(backend):
        return dispatch.run(operation, *args)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (63, 5), (300, 3), (513, 4), (1000, 1)])
def test_neighbours_equal_the_reference(n, k, monkeypatch):
    monkeypatch.setattr(knn, "_ENTRIES", 64 * n)
    monkeypatch.setattr(knn, "_ROWS", 1)
    x = 30 + randn(n, 6)
    indices, squares = run("blocked", "knn", x, k)
    expected = reference.knn(x, k)
    assert torch.equal(indices, expected[0])
    assert_close(squares, expected[1])


def test_neighbours_of_equal_rows_are_at_zero():
    x = randn(200, 5).repeat(2, 1).float() + 30
    indices, squares = run("blocked", "knn", x, 1)
    assert_close(squares, torch.zeros(400, 1), rtol=0, atol=0)
    assert torch.equal(indices[:, 0], (torch.arange(400) + 200) % 400)


def test_distances_to_neighbours_have_a_gradient():
    x = randn(12, 3).requires_grad_()
    with dispatch.backend("blocked"):
        assert gradcheck(lambda x: dispatch.run("knn", x, 2)[1], x)
        assert gradgradcheck(lambda x: dispatch.run("knn", x, 2)[1], x)


def test_neighbours_compile():
    torch.compiler.reset()
    x = randn(40, 3)
    with dispatch.backend("blocked"):
        call = torch.compile(lambda x: dispatch.run("knn", x, 3), fullgraph=True, backend="aot_eager")
        assert torch.equal(call(x)[0], reference.knn(x, 3)[0])


def test_custom_operators_keep_their_contract():
    torch.library.opcheck(torch.ops.graphkd.nearest.default, (randn(9, 3), 2))
    tensors = [randn(4, 3), randn(4, 3, seed=1)]
    torch.library.opcheck(torch.ops.graphkd.rule.default, ("row_kl", "(2.0,)", [True, False], tensors))


PLANNED = {
    "edge_kl": ([(8, 4), None, (8, 6), None], [(8192, 512), (1000, 512)] * 2, ("squared_euclidean", 0.1)),
    "edge_pkt": ([(16, 8), None] * 2, [(4096, 8), None] * 2, ()),
    "info_nce": ([(32, 8), (32, 8), (32,)], [(4096, 8), (4096, 8), (4096,)], ("squared_euclidean", 0.1)),
    "rkd_distance": ([(16, 8), (16, 9)], [(4096, 8), (4096, 9)], ()),
    "rkd_angle": ([(16, 8), (16, 9)], [(512, 8), (512, 9)], (0, 16)),
    "knn": ([(64, 8)], [(65536, 8)], (8,)),
}


@pytest.mark.parametrize("operation", PLANNED)
def test_small_graphs_stay_dense_and_large_ones_go_in_blocks(operation):
    assert operation in PLANNERS
    small, large, options = PLANNED[operation]
    assert explain(operation, small, *options).plan.backend == "eager"
    found = explain(operation, large, *options)
    assert found.plan.backend == "blocked"
    assert found.plan.flops > 0
