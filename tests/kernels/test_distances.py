"""Distances of close rows in float32, on every backend: only rows that are equal are at distance 0."""

import pytest
import torch
from graphkd_kernels import dispatch, reference
from graphkd_kernels._blocked import blocks
from graphkd_kernels.reference import distances
from torch import tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from tests.kernels.inputs import randn
from tests.kernels.relational_cases import CALLS, inputs, value_and_gradients

backends = pytest.mark.parametrize("backend", ["eager", "blocked"])


def close_rows(gap, n=12, d=64, offset=0.0):
    """Rows of length 1, of which the second is a gap away from the first."""
    x = normalize(randn(n, d))
    x[1] = x[0] + gap * normalize(randn(1, d, seed=1))[0]
    return (x + offset).float()


def distance_of_the_pair(x):
    """Value and gradient, and both in float64."""
    leaf = x.clone().requires_grad_()
    value = reference.similarity(leaf, None, "euclidean")[0, 1]
    (gradient,) = torch.autograd.grad(value, leaf)
    apart = x[1].double() - x[0].double()
    return value.detach(), gradient, apart.norm(), apart / apart.norm()


def test_a_close_pair_by_hand():
    x = tensor([[1.0, 0.0], [1.0, 1e-4], [-2.0, 0.0]], requires_grad=True)
    found = reference.squared_distances(x, x)
    assert_close(found[0], tensor([0.0, 1e-8, 9.0]))
    (gradient,) = torch.autograd.grad(found[0, 1], x)
    assert_close(gradient, tensor([[0.0, -2e-4], [0.0, 2e-4], [0.0, 0.0]]), atol=1e-10, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 10.0])
@pytest.mark.parametrize("gap", [0.2, 0.1, 1e-2, 2e-3, 1e-3, 1e-4, 1e-5])
def test_close_rows_keep_their_distance_and_direction(gap, offset):
    value, gradient, true, direction = distance_of_the_pair(close_rows(gap, offset=offset))
    assert_close(value.double(), true, rtol=1e-5, atol=0)
    assert_close(gradient[1].double(), direction, rtol=0, atol=1e-5)
    assert_close(gradient[0].double(), -direction, rtol=0, atol=1e-5)
    assert not gradient[2:].any()


def test_rows_that_differ_in_the_last_bit_are_apart():
    x = randn(9, 40, dtype=torch.float32)
    x[1] = x[0]
    x[1, 3] = torch.nextafter(x[0, 3], tensor(9.0))
    value, gradient, true, direction = distance_of_the_pair(x)
    assert_close(value.double(), true, rtol=1e-6, atol=0)
    assert_close(gradient[1].double(), direction, rtol=0, atol=1e-4)


def test_rows_in_float64_may_be_closer_still():
    x = randn(9, 40)
    x[1] = x[0] + 1e-11 * randn(40, seed=1)
    value, gradient, true, direction = distance_of_the_pair(x)
    assert_close(value, true, rtol=1e-10, atol=0)
    assert_close(gradient[1], direction, rtol=0, atol=1e-4)


def test_equal_rows_are_at_zero_without_gradient_beside_close_ones():
    x = close_rows(1e-3)
    x[5] = x[0]
    x = x.requires_grad_()
    found = reference.squared_distances(x, x)
    assert found[0, 5] == found[5, 0] == 0
    assert (found > 0).sum() == found.numel() - len(x) - 2
    for value in (found[0, 5], found[5, 5], reference.safe_sqrt(found)[0, 5]):
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        assert not gradient.any()


def test_other_targets_and_several_graphs():
    x, y = (torch.stack([close_rows(gap), close_rows(0.5)]) for gap in (1e-3, 1e-4))
    found = reference.squared_distances(x, y)
    expected = (x.double().unsqueeze(2) - y.double().unsqueeze(1)).square().sum(-1)
    assert_close(found.double(), expected, rtol=1e-5, atol=0)


def test_few_differences_at_a_time(monkeypatch):
    monkeypatch.setattr(distances, "_NUMBERS", 1)
    x = randn(1, 6, dtype=torch.float32) + 1e-6 * randn(7, 6, dtype=torch.float32, seed=1)
    x = torch.cat([x, -x])  # all of one half, and of the other, so close that float64 products lose digits
    expected = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    assert_close(reference.squared_distances(x, x), expected, rtol=1e-5, atol=0)


def test_without_a_look_at_the_values_float64_tells_rows_apart(monkeypatch):
    monkeypatch.setattr(distances, "can_look", lambda x: False)
    value, gradient, true, direction = distance_of_the_pair(close_rows(1e-5))
    assert_close(value.double(), true, rtol=1e-4, atol=0)
    assert_close(gradient[1].double(), direction, rtol=0, atol=1e-5)
    x = close_rows(1e-3)
    x[5] = x[0]
    assert reference.squared_distances(x, x)[0, 5] == 0


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for():
    x = close_rows(1e-4).cuda().requires_grad_()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = reference.similarity(x, None, "euclidean").sum() + reference.unit_rows(x).sum()
        (gradient,) = torch.autograd.grad(value, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert gradient.isfinite().all()


TRACED = {
    "vmap": lambda call, x: torch.func.vmap(call)(x[None])[0],
    "compile": lambda call, x: torch.compile(call, fullgraph=True, backend="aot_eager")(x),
}


@pytest.mark.parametrize("way", ["vmap", pytest.param("compile", marks=pytest.mark.slow)])
def test_traced_calls_see_close_rows(way):
    x = close_rows(1e-4)
    found = TRACED[way](lambda x: reference.similarity(x, None, "euclidean"), x)
    assert_close(found.double(), reference.similarity(x.double(), None, "euclidean"), rtol=1e-5, atol=0)


@pytest.mark.parametrize("n", [1, 4])
def test_a_nan_goes_out_beside_close_rows(n):
    x = close_rows(1e-4)[:n]
    x[-1, 3] = torch.nan
    assert reference.squared_distances(x, x)[-1].isnan().all()


def test_second_derivatives_of_close_rows():
    x = randn(4, 3)
    x[1] = x[0] + 1e-7 * randn(3, seed=1)
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: reference.squared_distances(x, x), x)


DISTANCES = [name for name in CALLS if any(kind in name for kind in ("euclidean", "rbf", "rkd"))]


@backends
@pytest.mark.parametrize("gap", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("name", DISTANCES)
def test_every_loss_of_distances(name, gap, backend, monkeypatch):
    monkeypatch.setattr(blocks, "ENTRIES", 60)
    tensors = [0.3 * x.float() for x in inputs(name, d=40, e=30)]
    for x in (tensors[0], tensors[-1]):
        x[1] = x[0] + gap * x[2]
        x[4] = x[3]
    if "within" not in name and "rkd" not in name:
        tensors[1][0] = tensors[0][0] - gap * tensors[0][2]
    found = value_and_gradients(backend, CALLS[name], tensors)
    expected = value_and_gradients("eager", CALLS[name], [x.double() for x in tensors])
    assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-6)
    for ours, truth in zip(found[1], expected[1], strict=True):
        assert float((ours.double() - truth).abs().max() / truth.abs().max()) < 5e-5


@backends
def test_neighbours_of_a_tight_cluster(backend):
    cluster = 1 + 1e-4 * randn(20, 16, dtype=torch.float32, seed=1)
    x = torch.cat([cluster, -cluster[:1], randn(30, 16, dtype=torch.float32)])
    with dispatch.backend(backend):
        indices, squares = dispatch.run("knn", x, 3)
    expected = reference.knn(x.double(), 3)
    assert torch.equal(indices, expected[0])
    assert_close(squares.double(), expected[1], rtol=1e-5, atol=0)


def test_an_outlier_takes_no_digits_from_the_angles_of_others():
    x = randn(10, 20, dtype=torch.float32)
    x[0] *= 1e4
    found, expected = reference.rkd_angles(x, 0, 10), reference.rkd_angles(x.double(), 0, 10)
    assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_angles_at_a_close_pair():
    x = close_rows(1e-4)
    assert_close(reference.rkd_angles(x, 0, 12).double(), reference.rkd_angles(x.double(), 0, 12), rtol=0, atol=1e-6)


@pytest.mark.parametrize("exponent", [-120, -50, 50, 120])
@pytest.mark.parametrize("row_map", ["unit_rows", "center_normalize"])
@backends
def test_rows_of_any_size_have_the_same_direction(backend, row_map, exponent):
    x, upstream = randn(5, 40, dtype=torch.float32), randn(5, 40, dtype=torch.float32, seed=1)
    x[3] = 0
    found = []
    for power in (1.0, 2.0**exponent):
        leaf = (x * power).requires_grad_()
        with dispatch.backend(backend):
            value = dispatch.run(row_map, leaf)
        (gradient,) = torch.autograd.grad(value, leaf, upstream)
        found.append((value, gradient * power))
    assert_close(*found)
