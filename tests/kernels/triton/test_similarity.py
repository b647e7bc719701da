"""Relations as matrices, and row maps, on kernels against the reference in float64."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

ROW_MAPS = ("center_normalize", "unit_rows")
DISTANCES = ("euclidean", "squared_euclidean", "rbf")


def check(operation, inputs, options, needs, tolerance=5e-6):
    testing.check(
        lambda *nodes: OPERATIONS[operation](*nodes, *options),
        lambda *nodes: getattr(reference, operation)(*nodes, *options),
        inputs,
        needs,
        inputs[0].device,
        tolerance,
    )


@pytest.mark.parametrize("operation", ROW_MAPS)
@pytest.mark.parametrize("shape", [(1, 3), (2, 63), (97, 65), (2, 3, 17, 130)])
def test_row_maps(operation, shape, device):
    check(operation, [testing.rows(*shape).to(device)], (), (True,))


@pytest.mark.parametrize("operation", ROW_MAPS)
@pytest.mark.parametrize(
    "change", [testing.strided, testing.transposed, testing.expanded, testing.with_zero_row, testing.with_dead_row]
)
def test_row_maps_of_awkward_inputs(operation, change, device):
    check(operation, [change(testing.rows(17, 65).to(device))], (), (True,))


@pytest.mark.parametrize("operation", ROW_MAPS)
def test_row_maps_keep_the_type_and_accumulate_in_float32(operation, device):
    x = testing.rows(17, 300, dtype=torch.bfloat16).to(device).requires_grad_()
    value = OPERATIONS[operation](x)
    value.float().sum().backward()
    assert value.dtype == x.grad.dtype == torch.bfloat16
    assert testing.error(value, getattr(reference, operation)(x.double())) < 4e-3


@pytest.mark.parametrize("relation", DISTANCES)
@pytest.mark.parametrize("targets", [None, (33, 65)], ids=["own", "others"])
def test_distances(relation, targets, device):
    x = testing.with_duplicates(testing.rows(70, 65)).to(device)
    y = None if targets is None else testing.rows(*targets, seed=1).to(device)
    check("similarity", [x, y], (relation, 0.01), (True, y is not None))


@pytest.mark.parametrize("relation", ["gram", "cosine", "pearson"])
def test_products(relation, device):
    check(
        "similarity",
        [testing.rows(2, 30, 20).to(device), testing.rows(2, 9, 20, seed=1).to(device)],
        (relation,),
        (True, True),
    )


def test_a_large_offset_does_not_cancel(device):
    x = testing.rows(40, 128, dtype=torch.float64)
    check("similarity", [(x + 30).float().to(device), None], ("euclidean",), (False, False), 2e-6)


@pytest.mark.parametrize("relation", DISTANCES)
def test_equal_rows_are_at_distance_zero_without_gradient(relation, device):
    x = testing.with_duplicates(testing.rows(20, 65)).to(device).requires_grad_()
    value = OPERATIONS["similarity"](x, None, relation)
    assert value[0, -1] == value[-1, 0] == (1 if relation == "rbf" else 0)
    value[0, -1].backward()
    assert (x.grad == 0).all()


@pytest.mark.slow
def test_second_derivatives(device):
    x = testing.rows(5, 3, dtype=torch.float64).to(device).requires_grad_()
    for operation in ROW_MAPS:
        assert torch.autograd.gradcheck(OPERATIONS[operation], (x,))
        assert torch.autograd.gradgradcheck(OPERATIONS[operation], (x,))
    assert torch.autograd.gradgradcheck(lambda x: OPERATIONS["similarity"](x, None, "rbf", 0.3), (x,))


@pytest.mark.parametrize("bad", [0, 1])
def test_nan_stays(bad, device):
    x = testing.rows(9, 5).to(device)
    x[bad, 3] = float("nan")
    value = OPERATIONS["similarity"](x, None, "euclidean")
    assert value[bad].isnan().all()
