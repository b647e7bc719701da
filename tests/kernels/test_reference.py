from math import exp, log, sqrt

import pytest
import torch
from graphkd_kernels import reference
from torch import tensor
from torch.testing import assert_close

from tests.kernels.inputs import F64, randn

ROW_MAPS = [reference.unit_rows, reference.center_normalize]


def gradient(function, *inputs):
    leaves = [each.clone().requires_grad_() for each in inputs]
    value = function(*leaves)
    weight = randn(*value.shape, seed=9, dtype=value.dtype) if value.ndim else torch.ones_like(value)
    return torch.autograd.grad((value * weight).sum(), leaves)


# by hand


def test_square_root_by_hand():
    x = tensor([4.0, 0.0, 9.0], requires_grad=True)
    root = reference.safe_sqrt(x)
    root.sum().backward()
    assert root.tolist() == [2, 0, 3]
    assert_close(x.grad, tensor([1 / 4, 0, 1 / 6]))


def test_unit_rows_by_hand():
    assert_close(reference.unit_rows(tensor([[3.0, 4.0], [0.0, -2.0]])), tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_center_normalize_by_hand():  # centred (-1, 0, 1), length sqrt(2)
    assert_close(reference.center_normalize(tensor([[1.0, 2, 3]])), tensor([[-1.0, 0, 1]]) / sqrt(2))


def test_gram_and_distances_by_hand():
    x, y = tensor([[0.0, 0.0], [1.0, 2.0]]), tensor([[3.0, 4.0]])
    assert_close(reference.gram(x, y), tensor([[0.0], [11.0]]))
    assert_close(reference.squared_distances(x, y), tensor([[25.0], [8.0]]))


def test_row_kl_by_hand():  # teacher (1/2, 1/2), student (1/4, 3/4): log(2 / sqrt(3))
    student, teacher = tensor([[0.0, log(3)]]), tensor([[5.0, 5.0]])
    assert_close(reference.row_kl(student, teacher), tensor([log(2 / sqrt(3))]))
    assert_close(reference.row_kl(2 * student, teacher, 2.0), tensor([log(2 / sqrt(3))]))


def test_row_kl_of_a_class_without_probability():  # 0 log 0 = 0: what the teacher masks counts nothing
    masked, student = tensor([[0.0, -torch.inf, 0.0]]), tensor([[0.0, 5.0, log(3)]])
    assert_close(reference.row_kl(student.masked_fill(masked.isinf(), -torch.inf), masked), tensor([log(2 / sqrt(3))]))
    assert_close(reference.row_kl(student, masked), tensor([log((4 + exp(5)) / (2 * sqrt(3)))]))
    assert reference.row_kl(masked, student).item() == torch.inf


def test_row_pearson_by_hand():
    assert_close(reference.row_pearson(tensor([[1.0, 2, 3]]), tensor([[1.0, 3, 2]])), tensor([0.5]))


def test_knn_by_hand():
    indices, distances = reference.knn(tensor([[0.0], [1.0], [3.0], [7.0]]), 2)
    assert indices.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert_close(distances, tensor([[1.0, 9], [1, 4], [4, 9], [16, 36]]))


# laws


@pytest.mark.parametrize("row_map", ROW_MAPS)
@pytest.mark.parametrize("n", [1, 5])
def test_row_maps_gradcheck(row_map, n):
    assert torch.autograd.gradcheck(row_map, randn(n, 4).requires_grad_())


@pytest.mark.parametrize(
    "operation",
    [reference.gram, reference.squared_distances, reference.row_kl, reference.row_pearson],
)
def test_pair_operations_gradcheck(operation):
    assert torch.autograd.gradcheck(operation, (randn(3, 4).requires_grad_(), randn(3, 4, seed=1).requires_grad_()))


def test_dist_sums_by_hand():
    # Probabilities (.5, .25, .25), (.25, .5, .25) against (.25, .5, .25), (.25, .5, .25): rows correlate by -1/2 and 1,
    # and columns that are constant on one side count as uncorrelated.
    student = tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]).log()
    teacher = student[[1, 1]]
    assert_close(reference.dist_sums(student, teacher, 1.0, 0.0), tensor([1.5, 3.0]))
    assert_close(reference.dist_sums(2 * student, 2 * teacher, 2.0, 0.0), tensor([1.5, 3.0]))


def test_self_distances_gradcheck():
    assert torch.autograd.gradcheck(lambda x: reference.squared_distances(x, x), randn(4, 3).requires_grad_())


@pytest.mark.parametrize("row_map", ROW_MAPS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_row_maps_of_batched_and_strided_nodes(row_map, batch):
    x = randn(*batch, 4, 12)[..., ::2]
    flat = torch.stack([row_map(each) for each in x.reshape(-1, 4, 6)]).view(*batch, 4, 6)
    assert_close(row_map(x), flat)


@pytest.mark.parametrize("n", [1, 63, 500])
def test_distances_are_those_of_differences(n):
    x, y = randn(n, 7) + 100, randn(4, 7, seed=1) + 100
    assert_close(reference.squared_distances(x, y), (x.unsqueeze(1) - y).square().sum(-1))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("n", "d"), [(3, 5), (65, 130), (200, 512), (40, 4096)])
def test_equal_rows_are_at_distance_zero(dtype, n, d):
    x = randn(n, d, dtype=dtype) + 3
    for other in (x, x.clone(), x[torch.arange(n)]):
        assert reference.squared_distances(x, other).diagonal().abs().max() == 0


def test_a_near_pair_keeps_its_distance():
    x = tensor([[0.0, 0.0], [1e-6, 0.0], [1.0, 1.0]], dtype=F64)
    assert_close(reference.squared_distances(x, x)[0, 1], tensor(1e-12, dtype=F64), rtol=1e-2, atol=0)
    assert_close(reference.squared_distances(x[:1], x)[0, 1], tensor(1e-12, dtype=F64), rtol=1e-2, atol=0)


def test_distances_far_from_the_origin_keep_their_digits():
    x = randn(5, 3)
    near, far = (reference.squared_distances(each, each) for each in (x, x + 1e6))
    assert_close(near, far, rtol=1e-8, atol=1e-8)


# degenerate rows


def test_root_of_zero_has_no_gradient():
    (grad,) = gradient(reference.safe_sqrt, torch.zeros(2, dtype=F64))
    assert grad.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    ("row_map", "row"),
    [(reference.unit_rows, 0.0), (reference.center_normalize, 0.0), (reference.center_normalize, 0.1)],
)
@pytest.mark.parametrize("scale", [1, 1e-9, 1e9])
def test_dead_rows_are_zero_without_gradient(row_map, row, scale, dtype):
    x = torch.full((2, 37), row * scale, dtype=dtype)
    x[1] = scale * randn(37, dtype=dtype)
    assert (row_map(x)[0] == 0).all()
    (grad,) = gradient(row_map, x)
    assert (grad[0] == 0).all()
    assert (grad[1] != 0).any()
    assert grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("row_map", ROW_MAPS)
def test_small_and_large_rows_live(row_map, scale):
    x = randn(3, 5)
    assert_close(row_map(scale * x), row_map(x))


@pytest.mark.parametrize(
    "operation",
    [
        reference.safe_sqrt,
        reference.unit_rows,
        reference.center_normalize,
        lambda x: reference.gram(x, x),
        lambda x: reference.squared_distances(x, x),
        lambda x: reference.row_kl(x, x.flip(-1)),
        lambda x: reference.row_pearson(x, x.flip(-1)),
    ],
)
def test_a_nan_goes_out(operation):
    x = randn(3, 4).abs()
    x[1, 2] = torch.nan
    assert operation(x)[1].isnan().any()


def test_kl_of_equal_rows_is_zero_with_zero_gradient():
    x = randn(3, 4)
    assert_close(reference.row_kl(x, x), torch.zeros(3, dtype=F64))
    (grad,) = gradient(lambda student: reference.row_kl(student, x), x)
    assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-12)
