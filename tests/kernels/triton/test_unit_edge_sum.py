"""Grams with unit rows on kernels against the reference in float64."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

ALL, STUDENT = (True,) * 4, (True, False, False, False)


def check(inputs, needs, device, tolerance=5e-6):
    inputs = [None if each is None else each.to(device) for each in inputs]
    with testing.poisoned():
        found = testing.errors(OPERATIONS["unit_edge_sum"], reference.unit_edge_sum, inputs, needs)
    assert max(found) < tolerance, found


def test_a_set_with_itself(device):
    check([testing.rows(97, 17), None, testing.rows(97, 17, seed=1), None], (True, False, True, False), device)


def test_a_set_with_another(device):
    sizes = (97, 17), (130, 17), (97, 17), (130, 17)
    check([testing.rows(*size, seed=i) for i, size in enumerate(sizes)], ALL, device)


def test_channels_of_images(device):
    x = testing.rows(2, 70, 9)
    check([x, None, 3 * testing.near(x, 0.3), None], STUDENT, device)


@pytest.mark.parametrize("scale", [1.0, 0.01, 100.0])
@pytest.mark.parametrize("noise", [1e-2, 1e-3])
def test_near_convergence_whatever_the_scale(noise, scale, device):
    x = testing.rows(97, 17)
    check([scale * testing.near(x, noise), None, x, None], STUDENT, device, 3e-4)


@pytest.mark.parametrize("which", [0, 2])
def test_zero_rows(which, device):
    inputs = [testing.rows(97, 17), None, testing.rows(97, 17, seed=1), None]
    inputs[which] = testing.with_zero_row(inputs[which])
    check(inputs, (True, False, True, False), device)


def test_equal_sets(device):
    x = testing.rows(97, 17).to(device).requires_grad_()
    value = OPERATIONS["unit_edge_sum"](x, None, x.detach(), None)
    value.backward()
    assert value == 0
    assert (x.grad.abs() < 1e-6).all()


def test_float64(device):
    x, t = testing.rows(97, 17, dtype=torch.float64), testing.rows(97, 17, seed=1, dtype=torch.float64)
    check([x, None, t, None], (True, False, True, False), device, 1e-12)


@pytest.mark.parametrize("widths", [(33, 33), (17, 20)], ids=["few nodes", "unequal widths"])
def test_what_goes_by_plain_products(widths, device):
    check([testing.rows(40, widths[0]), None, testing.rows(40, widths[1], seed=1), None], STUDENT, device)


def test_nan_stays(device):
    x = testing.rows(97, 17).to(device)
    x[5, 3] = float("nan")
    assert OPERATIONS["unit_edge_sum"](x, None, testing.rows(97, 17, seed=1).to(device), None).isnan()
