"""Sums over blocks in one process: the values and gradients of whole matrices, in any number of pieces."""

import pytest
import torch
from torch.testing import assert_close

from graphkd.errors import GraphError
from graphkd.ring import pairs as module
from graphkd.ring.pairs import Pairs, itself
from tests.kernels.inputs import randn


def products(own, theirs, first, start):
    return own[0] @ theirs[0].T, itself(own[0], theirs[0], first, start).to(own[0].dtype)


@pytest.fixture(params=[1, 12, 2**22], ids="{} entries at once".format)
def entries(request, monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", request.param)


def cubes(gram, diagonal, shift):
    return torch.stack([(gram - shift).pow(3).sum(-1), (gram * diagonal).sum(-1)], -1)


@pytest.mark.usefixtures("entries")
def test_sums_are_those_of_the_matrix():
    x, y, shift = randn(5, 3, seed=1), randn(6, 3, seed=2), randn(5, 1, seed=3)
    pairs = Pairs((x,), (y,), (6,), products)
    assert_close(pairs.sum(cubes, shift), cubes(x @ y.T, torch.eye(5, 6, dtype=x.dtype), shift))
    assert_close(pairs.maximum()[:, 0], (x @ y.T).amax(-1))
    doubled = pairs.changed(lambda gram, _, by: (gram * by,), shift)
    assert_close(doubled.sum(lambda gram: gram.sum(-1, keepdim=True)), (x @ y.T * shift).sum(-1, keepdim=True))


@pytest.mark.usefixtures("entries")
def test_gradients_of_everything_that_has_one():
    def sums(x, y, shift):
        return Pairs((x, x), (y,), (4,), products).sum(cubes, shift)

    leaves = [randn(*shape, seed=k).requires_grad_() for k, shape in enumerate([(5, 3), (4, 3), (5, 1)])]
    assert torch.autograd.gradcheck(sums, leaves)
    leaves[1].requires_grad_(False)
    assert torch.autograd.gradcheck(sums, leaves)


def test_gradients_come_from_the_backend_of_the_forward_pass():
    from graphkd import backend, ops

    seen = []

    def values(own, theirs, first, start):
        seen.append(ops.dispatch.asked())
        return (own[0] @ theirs[0].T,)

    x = randn(3, 2).requires_grad_()
    with backend("eager"):
        total = Pairs((x,), (x,), (3,), values).sum(lambda gram: gram.sum(-1, keepdim=True)).sum()
    total.backward()
    assert seen == ["eager", "eager"]


def test_second_derivatives_are_refused():
    x = randn(3, 2).requires_grad_()
    total = Pairs((x,), (x,), (3,), products).sum(lambda gram, _: gram.sum(-1, keepdim=True)).sum()
    with pytest.raises(GraphError, match="first derivatives only"):
        torch.autograd.grad(total, x, create_graph=True)


def test_memory_is_that_of_own_rows_between_the_passes():
    x = randn(40, 2).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.numel()) or each, lambda each: each):
        Pairs((x,), (x,), (40,), products).sum(lambda gram, _: gram.square().sum(-1, keepdim=True))
    assert max(kept) == x.numel()
