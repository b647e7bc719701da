"""Row KL and correlations of rows and columns on kernels against the reference in float64: value and both gradients."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton import configs
from graphkd_kernels._triton.launch import Config, recording
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing
from tests.kernels.testing import pair

OPTIONS = {"row_kl": (2.0,), "row_pearson": (), "damped_row_pearson": (1e-8,), "damped_column_pearson": (1e-8,)}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}
operations = pytest.mark.parametrize("operation", OPTIONS)


def check(operation, inputs, device, needs=(True, True), options=None):
    """Errors below the tolerance, or below twice those of the reference in the inputs' own precision."""
    options = OPTIONS[operation] if options is None else options
    testing.check(
        lambda *matrices: OPERATIONS[operation](*matrices, *options),
        lambda *matrices: getattr(reference, operation)(*matrices, *options),
        inputs,
        needs,
        device,
        TOLERANCE[inputs[0].dtype],
        beside_oracle=True,
    )


@operations
@pytest.mark.parametrize("shape", [(3, 3), (63, 100), (97, 65), (2, 40, 17)])
def test_shapes(operation, shape, device):
    check(operation, pair(*shape), device)


@operations
def test_one_number(operation, device):
    found = OPERATIONS[operation](*(each.to(device) for each in pair(1, 1)), *OPTIONS[operation])
    assert found.tolist() == [0]


@operations
@pytest.mark.parametrize("offset", [30.0, -300.0])
def test_a_common_offset(operation, offset, device):
    s, t = pair(33, 20)
    check(operation, [s + offset, t - offset], device)


@operations
@pytest.mark.parametrize("noise", [1e-2, 1e-3])
def test_near_convergence(operation, noise, device):
    t = testing.rows(33, 50)
    check(operation, [testing.near(t, noise), t], device)


@operations
def test_dead_rows_and_columns(operation, device):
    s, t = pair(33, 20)
    s, t = testing.with_dead_row(s), testing.with_dead_row(t.flip(0)).flip(0)
    s[:, 3], t[:, 5] = 0.1, 7.0
    check(operation, [s, t], device)


def test_probabilities(device):
    check("damped_row_pearson", [each.softmax(-1) for each in pair(40, 100)], device)
    check("damped_column_pearson", [each.softmax(-1) for each in pair(140, 30)], device)


def test_logits_of_any_size(device):
    s, t = pair(20, 30)
    check("row_kl", [100 * s, 100 * t], device, options=(1.0,))
    masked = s.clone()
    masked[:, :16] = -1e30
    check("row_kl", [masked, masked + 0.1 * t], device, options=(1.0,))


@pytest.mark.parametrize("of_student", [False, True])
@pytest.mark.parametrize("columns", [30, 100])
def test_classes_masked_by_minus_infinity(of_student, columns, device, monkeypatch):
    monkeypatch.setattr(
        "graphkd_kernels._triton.row_kl.long_rows", lambda columns, dtype, device: Config(16, 32, 1, 4, 1)
    )
    s, t = pair(20, columns)
    masked = testing.rows(20, columns, seed=2) > 1
    masked[0, :-1] = masked[1, 1:] = True  # the only class left is in the last block, or in the first
    masked[2:, 0] = False
    masked[0, -1] = masked[1, 0] = False
    s = s.masked_fill(masked & of_student, -torch.inf)
    check("row_kl", [s, t.masked_fill(masked, -torch.inf)], device)


@operations
def test_rows_longer_than_a_block(operation, monkeypatch, device):
    for module in ("row_kl", "row_pearson"):
        monkeypatch.setattr(
            f"graphkd_kernels._triton.{module}.long_rows", lambda columns, dtype, device: Config(16, 32, 1, 4, 1)
        )
    check(operation, pair(20, 100), device)


@operations
def test_a_nan_goes_out(operation, device):
    s, t = (each.to(device) for each in pair(33, 20))
    s[4, 6] = float("nan")
    found = OPERATIONS[operation](s, t, *OPTIONS[operation])
    assert found.isnan().nonzero().flatten().tolist() == [6 if "column" in operation else 4]


@pytest.mark.parametrize("operation", ["row_pearson", "damped_row_pearson", "damped_column_pearson"])
def test_a_sum_of_squares_that_overflows_is_never_a_number(operation, device):
    s, t = (each.to(device) for each in pair(20, 20))
    found = OPERATIONS[operation](1e25 * s, t, *OPTIONS[operation])
    assert found.isnan().all()
    constant = OPERATIONS[operation](torch.full_like(s, 1e25), t, *OPTIONS[operation])
    assert not constant.any(), "without a square that overflows, a constant side is 0 as ever"


@operations
def test_the_upstream_gradient_of_a_sum_is_one_number(operation, device):
    inputs = pair(20, 30)
    testing.check(
        lambda *matrices: OPERATIONS[operation](*matrices, *OPTIONS[operation]).sum(),
        lambda *matrices: getattr(reference, operation)(*matrices, *OPTIONS[operation]).sum(),
        inputs,
        (True, True),
        device,
        1e-5,
        beside_oracle=True,
    )


def test_programs_hold_what_their_registers_do():
    gpu = torch.device("meta")
    with recording(90):
        for dtype in (torch.float32, torch.float64):
            for columns in (1, 100, 50_257):
                config = configs.long_rows(columns, dtype, gpu)
                assert config.rows * config.columns * dtype.itemsize <= 8_192
