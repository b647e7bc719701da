"""Nearest neighbours on kernels against the reference: indices, squared distances, and the gradient of the nodes."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing


def check(x, k, device, tolerance):
    x = x.to(device)
    with testing.poisoned():
        indices, _ = OPERATIONS["knn"](x, k)
        found = testing.errors(lambda x: OPERATIONS["knn"](x, k)[1], lambda x: reference.knn(x, k)[1], [x], [True])
    assert max(found) < tolerance, found
    assert torch.equal(indices.cpu(), reference.knn(testing.exact([x])[0], k)[0])


@pytest.mark.slow
def test_two_tiles(device):
    check(testing.strided(testing.rows(67, 5)) + 30, 3, device, 5e-5)  # of which 30 is most


def test_two_nodes(device):
    check(testing.rows(2, 5), 1, device, 1e-6)


@pytest.mark.parametrize("k", [3, 33])
def test_float64(k, device):
    check(testing.rows(35, 20, dtype=torch.float64), k, device, 1e-12)


@pytest.mark.slow
def test_more_neighbours_than_a_tile_holds(device):
    check(testing.rows(80, 20), 70, device, 1e-5)


def test_duplicates_are_at_distance_0_without_gradient(device):
    x = testing.with_duplicates(testing.rows(20, 6)).to(device).requires_grad_()
    indices, squares = OPERATIONS["knn"](x, 1)
    assert indices[0].item() == 19
    assert indices[19].item() == 0
    assert squares[0].item() == 0
    (grad,) = torch.autograd.grad(squares[0].sum(), x)
    assert grad.count_nonzero() == 0


def test_ties_go_to_the_lower_index(device):
    x = torch.tensor([[0.0], [1.0], [-1.0], [8.0]], device=device)
    assert OPERATIONS["knn"](x, 2)[0][0].tolist() == [1, 2]


def test_a_nan_goes_out(device):
    x = testing.rows(20, 6).to(device)
    x[3, 1] = float("nan")
    indices, squares = OPERATIONS["knn"](x, 2)
    assert squares.isnan().all()
    assert (indices != torch.arange(20, device=device)[:, None]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(dtype, device):
    check(testing.rows(70, 33, dtype=dtype), 5, device, 4e-3)  # of the gradient's rounding


def test_rows_that_come_nearer_all_the_time(device):
    """Every tile replaces all that was found before; of equal distances the lower index stays."""
    x = torch.arange(150.0, 0.0, -1.0, device=device).repeat_interleave(2)[:, None]
    x = torch.cat([torch.zeros(1, 1, device=device), x])
    indices, squares = OPERATIONS["knn"](x, 3)
    assert indices[0].tolist() == [299, 300, 297]
    assert squares[0].tolist() == pytest.approx([1, 1, 4], rel=1e-2)  # of rows 150 apart


@pytest.mark.slow
def test_parts_of_the_columns_are_merged_in_order(device):
    """520 rows are two parts of the columns, with equal distances in both."""
    x = testing.rows(20, 8).repeat(26, 1).to(device)
    indices, squares = OPERATIONS["knn"](x, 20)
    assert torch.equal(indices[0], 20 * torch.arange(1, 21, device=device))
    assert (squares == 0).all()
    assert (indices[:, 1:] > indices[:, :-1]).all()


def test_k_out_of_range(device):
    with pytest.raises(RuntimeError):
        OPERATIONS["knn"](testing.rows(5, 3).to(device), 6)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k"), [(97, 5), (150, 16), (130, 64)])
def test_the_wide_matrix(n, k, device):
    check(testing.rows(n, 65), k, device, 1e-5)


@pytest.mark.parametrize("gap", [1e-2, 1e-3, 1e-4])
def test_close_rows(gap, device):
    """Both nearest of rows of which two and two are close: order and distances need digits that products have lost."""
    x = testing.rows(36, 33)
    check(torch.cat([testing.with_close_rows(x, gap), testing.near(x, 2.5 * gap, seed=9)]), 2, device, 1e-5)
