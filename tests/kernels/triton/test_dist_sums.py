"""DIST from class scores on kernels against the reference in float64: value and both gradients."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing
from tests.kernels.testing import pair

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11, torch.bfloat16: 1e-2}


def check(inputs, device, needs=(True, True), temperature=2.0):
    """Errors below the tolerance, or below twice those of the reference in the inputs' own precision."""
    testing.check(
        lambda s, t: OPERATIONS["dist_sums"](s, t, temperature, 1e-8),
        lambda s, t: reference.dist_sums(s, t, temperature, 1e-8),
        inputs,
        needs,
        device,
        TOLERANCE[inputs[0].dtype],
        beside_oracle=True,
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 1), (3, 3), (63, 100), (97, 65), (5, 2100)])
def test_shapes(shape, device):
    check(pair(*shape), device)


@pytest.mark.parametrize("noise", [0.0, 1e-2, 1e-3])
def test_near_convergence(noise, device):
    t = testing.rows(70, 50)
    check([testing.near(t, noise), t], device)


def test_uniform_rows_certain_classes_and_large_scores(device):
    s, t = pair(40, 20)
    s[3], t[5] = 0.7, -2.0
    s[:, 2], t[:, 4] = -60.0, -60.0
    t[7, 1] = 90.0
    check([s, t], device, temperature=1.0)
    check([30 * s + 100, 30 * t - 300], device, temperature=4.0)
