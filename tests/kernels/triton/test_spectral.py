"""The spectral residual on kernels against the reference in float64: value and every gradient."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

ALL = (True, True, True)


def check(inputs, affinity, device, needs=ALL, tolerance=1e-5, gamma=0.05):
    inputs = [each.to(device) for each in inputs]

    def oracle(*tensors):
        return reference.spectral_residual(*tensors, affinity, gamma)

    with testing.poisoned():
        found = testing.errors(
            lambda *tensors: OPERATIONS["spectral_residual"](*tensors, affinity, gamma), oracle, inputs, needs
        )
    limits = testing.errors(oracle, oracle, inputs, needs)
    assert all(one <= max(tolerance, 2 * limit) for one, limit in zip(found, limits, strict=True)), (found, limits)


def graph(n=70, d=20, k=5, dtype=torch.float32, b=()):
    x = testing.rows(*b, n, d, dtype=dtype).abs()  # degrees are positive: the reference clamps others
    return [x, testing.rows(*b, n, k, seed=1, dtype=dtype), testing.rows(*b, k, seed=2, dtype=dtype)]


@pytest.mark.parametrize("affinity", ["gram", "rbf"])
def test_batches_and_several_tiles(affinity, device):
    check(graph(b=(2,)), affinity, device)


@pytest.mark.parametrize("affinity", ["gram", "rbf"])
@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3])
def test_some_gradients(affinity, needs, device):
    check(graph(17), affinity, device, needs)


def test_float64_and_16_bits(device):
    check(graph(17, dtype=torch.float64), "rbf", device, tolerance=1e-12)
    check(graph(17, dtype=torch.bfloat16), "rbf", device, tolerance=1e-2)


def test_one_node(device):
    value = OPERATIONS["spectral_residual"](*(each.to(device) for each in graph(1, k=1)), "rbf", 0.5)
    _, u, lambdas = graph(1, k=1)
    torch.testing.assert_close(value.cpu(), (u * lambdas).square().sum())


@pytest.mark.parametrize("view", [testing.strided, testing.transposed, testing.expanded, testing.with_duplicates])
def test_layouts(view, device):
    x, u, lambdas = graph(17)
    check([view(x) + 30, view(u), lambdas], "rbf", device)


def test_more_vectors_than_features(device):
    check(graph(33, 3, 20), "rbf", device)


def test_a_nan_goes_out(device):
    x, u, lambdas = (each.to(device) for each in graph(17))
    x[3, 2] = float("nan")
    assert OPERATIONS["spectral_residual"](x, u, lambdas, "rbf").isnan()


def test_second_derivatives(device):
    inputs = [each.to(device) for each in graph(4, 3, 2, torch.float64)]
    found = testing.second(lambda *tensors: OPERATIONS["spectral_residual"](*tensors, "rbf", 0.5), inputs)
    expected = testing.second(lambda *tensors: reference.spectral_residual(*tensors, "rbf", 0.5), inputs)
    assert max(map(testing.error, found, expected)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d", "k"), [(97, 65, 10), (130, 100, 70)])
def test_the_wide_matrix(dtype, n, d, k, device):
    check(graph(n, d, k, dtype, b=(2,)), "rbf", device)
