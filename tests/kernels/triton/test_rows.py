"""Row maps on kernels against the reference in float64."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

ROW_MAPS = ("center_normalize", "unit_rows")


def check(operation, x):
    testing.check(OPERATIONS[operation], getattr(reference, operation), [x], (True,), x.device, 5e-6)


@pytest.mark.parametrize("operation", ROW_MAPS)
@pytest.mark.parametrize("shape", [(1, 3), (2, 63), (97, 65), (2, 3, 17, 130)])
def test_row_maps(operation, shape, device):
    check(operation, testing.rows(*shape).to(device))


@pytest.mark.parametrize("operation", ROW_MAPS)
@pytest.mark.parametrize(
    "change", [testing.strided, testing.transposed, testing.expanded, testing.with_zero_row, testing.with_dead_row]
)
def test_row_maps_of_awkward_inputs(operation, change, device):
    check(operation, change(testing.rows(17, 65).to(device)))


@pytest.mark.parametrize("operation", ROW_MAPS)
def test_row_maps_keep_the_type_and_accumulate_in_float32(operation, device):
    x = testing.rows(17, 300, dtype=torch.bfloat16).to(device).requires_grad_()
    value = OPERATIONS[operation](x)
    value.float().sum().backward()
    assert value.dtype == x.grad.dtype == torch.bfloat16
    assert testing.error(value, getattr(reference, operation)(x.double())) < 4e-3


@pytest.mark.slow
def test_second_derivatives(device):
    x = testing.rows(5, 3, dtype=torch.float64).to(device).requires_grad_()
    for operation in ROW_MAPS:
        assert torch.autograd.gradcheck(OPERATIONS[operation], (x,))
        assert torch.autograd.gradgradcheck(OPERATIONS[operation], (x,))
