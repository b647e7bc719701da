"""RKD's distances and angles on kernels against the reference in float64: value and every gradient."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton import node_blocks
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11, torch.bfloat16: 1e-2}


def call(table, operation):
    """An operation of two node sets, whatever its own arguments are."""
    if operation == "rkd_angle":
        return lambda s, t: table(operation)(s, t, 0, len(s))
    return table(operation)


def check(operation, inputs, device, needs=(True, True), tolerance=None):
    """Errors below the tolerance, or below twice those of the reference in the inputs' own precision."""
    oracle = call(lambda name: getattr(reference, name), operation)
    tolerance = TOLERANCE[inputs[0].dtype] if tolerance is None else tolerance
    testing.check(call(OPERATIONS.get, operation), oracle, inputs, needs, device, tolerance, beside_oracle=True)


def pair(n=33, d=20, e=17, dtype=torch.float32):
    return [testing.rows(n, d, dtype=dtype), testing.rows(n, e, seed=1, dtype=dtype)]


operations = pytest.mark.parametrize("operation", ["rkd_distance", "rkd_angle"])


@operations
@pytest.mark.parametrize("n", [3, 33])
def test_sizes(operation, n, device):
    check(operation, pair(n), device)


@operations
@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_nodes(operation, n, device):
    """Zero up to rounding, and finite: two distances relative to their mean, no three nodes for an angle."""
    s, t = (each.to(device).requires_grad_() for each in pair(n))
    value = call(OPERATIONS.get, operation)(s, t)
    expected = call(lambda name: getattr(reference, name), operation)(s.detach().double(), t.detach().double())
    assert abs(float(value) - float(expected)) < 1e-5
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(value, (s, t)))


@operations
def test_several_tiles(operation, device):
    check(operation, pair(66, 5, 3), device, (True, False))


@operations
def test_duplicates_and_offset(operation, device):
    s, t = pair(17)
    check(operation, [testing.with_duplicates(s) + 30, testing.with_duplicates(t.flip(0)).flip(0)], device)


@operations
def test_all_nodes_in_one_place(operation, device):
    s, t = pair(9)
    s = testing.expanded(s).to(device).requires_grad_()
    value = call(OPERATIONS.get, operation)(s, t.to(device))
    assert value.isfinite()
    assert torch.autograd.grad(value, s)[0].isfinite().all()


@operations
@pytest.mark.parametrize("noise", [1e-2, 1e-3])
def test_near_convergence(operation, noise, device):
    t = testing.rows(17, 32)
    tolerance = 1e-7 / noise if operation == "rkd_angle" else None  # what float32 leaves of so small a difference
    check(operation, [testing.near(t, noise), t], device, (True, False), tolerance)


@operations
@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3])
def test_close_rows(operation, gap, device):
    """Distances keep the digits that products lose; angles, which subtract them, and gradients, sums of products, lose
    what float32 has no digits for beside the gap."""
    s, t = (testing.with_close_rows(x, gap).to(device) for x in pair(34, 33, 33))
    function, oracle = call(OPERATIONS.get, operation), call(lambda name: getattr(reference, name), operation)
    value, gradient = testing.errors(function, oracle, [s, t], (True, False))
    assert value < (1e-6 if operation == "rkd_distance" else max(1e-6, 2e-8 / gap))
    assert gradient < 1e-6 / gap


@pytest.mark.slow
def test_blocks_that_do_not_fit(monkeypatch, device):
    monkeypatch.setattr(node_blocks, "ENTRIES", 300)
    check("rkd_distance", pair(67), device)


@pytest.mark.parametrize(("first", "last"), [(0, 5), (3, 30), (30, 33)])
def test_angles_at_some_vertices(first, last, device):
    needs = (True, True, False, False)
    testing.check(OPERATIONS["rkd_angle"], reference.rkd_angle, [*pair(33), first, last], needs, device, 1e-5)


@pytest.mark.slow
@operations
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [63, 97, 130])
def test_the_wide_matrix(operation, dtype, n, device):
    check(operation, pair(n, 65, 70, dtype), device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3])
def test_16_bits_lose_nothing_but_their_own_rounding(dtype, noise, device):
    """Against float64 of the rounded inputs; the gradient is rounded to 16 bits once more (float16's is too small)."""
    t = testing.rows(33, 32)
    inputs = [testing.near(t, noise).to(dtype).to(device), t.to(dtype).to(device)]
    value, gradient = testing.errors(OPERATIONS["rkd_distance"], reference.rkd_distance, inputs, (True, False))
    assert value < 4e-5  # of differences of 1e-3 between distances in float32
    assert gradient < 4e-3 or dtype == torch.float16


def test_networks_of_different_types(device):
    for types in ((torch.bfloat16, torch.float32), (torch.float16, torch.float64)):
        s, t = (x.to(dtype) for x, dtype in zip(pair(), types, strict=True))
        check("rkd_distance", [s, t], device, tolerance=1e-2)


def test_equal_rows_of_16_bits_are_at_distance_0(device):
    s, t = (testing.with_duplicates(x).bfloat16() + 2 for x in pair(17))
    check("rkd_distance", [s, t], device)
