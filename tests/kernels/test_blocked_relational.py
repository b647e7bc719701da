"""The blocked backend of row losses and RKD against the reference in float64: values, gradients, hard inputs."""

import pytest
import torch
from graphkd_kernels import dispatch
from graphkd_kernels._blocked import OPERATIONS, blocks, dist_sums, rkd_angle, rkd_distance, row_kl, row_pearson
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from tests.kernels.relational_cases import CALLS, ROWS, SCORES, WITHIN, inputs, randn, value_and_gradients

every = pytest.mark.parametrize("name", list(CALLS))


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few entries, so that small inputs meet every edge of a block."""
    monkeypatch.setattr(blocks, "ENTRIES", 40)
    monkeypatch.setattr(row_kl, "ROW_ENTRIES", 40)
    monkeypatch.setattr(row_pearson, "ROW_ENTRIES", 40)
    monkeypatch.setattr(row_pearson, "COLUMN_ENTRIES", 40)
    monkeypatch.setattr(dist_sums, "COLUMN_ENTRIES", 40)
    monkeypatch.setattr(rkd_angle, "_ENTRIES", 700)
    monkeypatch.setattr(rkd_angle, "_ROWS", 5)
    monkeypatch.setattr(rkd_distance, "_ENTRIES", 1)


def same(name, tensors, **options):
    found = value_and_gradients("blocked", CALLS[name], tensors, **options)
    expected = value_and_gradients("eager", CALLS[name], tensors, **options)
    assert_close(found, expected, rtol=1e-9, atol=1e-11)


@every
@pytest.mark.parametrize("size", [(1, 1, 3, 2), (2, 3, 4, 4), (63, 17, 5, 9), (97, 65, 8, 3)], ids=str)
def test_equals_the_reference(name, size):
    same(name, inputs(name, *size))


@every
def test_in_many_blocks(name, small_blocks):
    same(name, inputs(name))


@every
def test_hard_rows(name, small_blocks):
    tensors = inputs(name)
    tensors[0][3], tensors[0][4] = 0, 2.5  # a zero row, a constant row
    tensors[0][6] = tensors[0][7]
    tensors[-1][2] = tensors[-1][5]
    same(name, tensors)


@every
def test_strided_expanded_and_shifted(name):
    tensors = [30 + x for x in inputs(name)]
    same(name, [torch.cat([x, x], -1)[:, : x.shape[1]] for x in tensors])
    same(name, [x.mT.contiguous().mT for x in tensors])
    expanded = [x[:1].expand_as(x) for x in tensors]
    found = value_and_gradients("blocked", CALLS[name], expanded)
    assert all(each.isfinite().all() for each in (found[0], *found[1]))


@every
def test_gradient_of_one_input_only(name):
    tensors = inputs(name)
    for i in range(len(tensors)):
        same(name, tensors, which=[i])


@pytest.mark.parametrize("name", [each for each in CALLS if each in ROWS or each.startswith("edge")])
def test_batches(name, small_blocks):
    same(name, [torch.stack([x, x.flip(0), 2 * x]) for x in inputs(name)])


@pytest.mark.parametrize("name", [*ROWS, *SCORES, *WITHIN])
@pytest.mark.parametrize("noise", [0, 1e-3, 1e-2, 1.0])
def test_float32_is_as_near_to_float64_as_the_reference(name, noise):
    x = randn(150, 40)
    tensors = [x + noise * randn(150, 40, seed=1), x]
    exact, truth = value_and_gradients("eager", CALLS[name], tensors)
    errors = {}
    for backend in ("eager", "blocked"):
        value, gradients = value_and_gradients(backend, CALLS[name], tensors, dtype=torch.float32)
        pairs = zip((value, *gradients), (exact, *truth), strict=True)
        errors[backend] = [float((a.double() - b).abs().max()) for a, b in pairs]
    floors = [float(2e-7 * each.abs().max()) for each in (exact, *truth)]
    floors[0] += 2e-8 * len(x)  # an eps of the normaliser of each row, which one draw may spare the reference
    for ours, theirs, floor in zip(errors["blocked"], errors["eager"], floors, strict=True):
        assert ours <= max(2 * theirs, floor) + 1e-9


@pytest.mark.parametrize("of_student", [False, True])
def test_masked_classes_of_row_kl(of_student, small_blocks):
    student, teacher = inputs("row_kl")
    masked = randn(*teacher.shape, seed=7) > 1
    masked[:, 0] = False
    same("row_kl", [student.masked_fill(masked & of_student, -torch.inf), teacher.masked_fill(masked, -torch.inf)])


@every
def test_a_nan_goes_out(name):
    tensors = inputs(name)
    tensors[0][3, 1] = torch.nan
    with dispatch.backend("blocked"):
        assert CALLS[name](*tensors).isnan().any()


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_inputs_compute_in_float32(name, dtype):
    tensors = [x.to(dtype) for x in inputs(name)]
    value, gradients = value_and_gradients("blocked", CALLS[name], tensors)
    expected, _ = value_and_gradients("eager", CALLS[name], tensors, dtype=torch.float64)
    assert value.dtype == torch.float32
    assert {each.dtype for each in gradients} == {dtype}
    assert_close(value.double(), expected, rtol=1e-4, atol=1e-4)


@every
def test_a_second_backward_finds_the_same_gradients(name):
    leaves = [x.requires_grad_() for x in inputs(name)]
    with dispatch.backend("blocked"):
        value = CALLS[name](*leaves).sum()
    first = torch.autograd.grad(3 * value, leaves, retain_graph=True)
    assert_close(torch.autograd.grad(3 * value, leaves), first, rtol=0, atol=0)


@every
def test_gradcheck_and_gradgradcheck(name, small_blocks):
    leaves = [x.requires_grad_() for x in inputs(name, 6, 4, 3, 3)]
    with dispatch.backend("blocked"):
        assert gradcheck(CALLS[name], leaves)
        assert gradgradcheck(CALLS[name], leaves)


@every
def test_functional_gradient_and_vmap(name):
    tensors = inputs(name)
    with dispatch.backend("blocked"):
        found = torch.func.grad(lambda *x: CALLS[name](*x).sum())(*tensors)
        many = torch.func.vmap(CALLS[name])(*[torch.stack([x, 2 * x]) for x in tensors])
        each = torch.stack([CALLS[name](*tensors), CALLS[name](*[2 * x for x in tensors])])
    with dispatch.backend("eager"):
        expected = torch.func.grad(lambda *x: CALLS[name](*x).sum())(*tensors)
    assert_close(found, expected)
    assert_close(many, each)


COMPILED = (
    "row_kl damped_column_pearson dist_sums edge_kl-cosine edge_pkt-within info_nce-cosine rkd_distance rkd_angle"
)


@pytest.mark.parametrize("name", COMPILED.split())
def test_compiled_as_one_graph(name):
    torch.compiler.reset()
    call = torch.compile(lambda *x: CALLS[name](*x).sum(), fullgraph=True, backend="aot_eager")
    leaves = [x.requires_grad_() for x in inputs(name)]
    with dispatch.backend("blocked"):
        expected = torch.autograd.grad(CALLS[name](*leaves).sum(), leaves)
        found = torch.autograd.grad(call(*leaves), leaves)
    assert_close(found, expected)


@every
def test_no_rows(name):
    tensors = inputs(name, n=0)
    value, gradients = value_and_gradients("blocked", CALLS[name], tensors)
    expected = value_and_gradients("eager", CALLS[name], tensors)
    assert value.isfinite().all()
    assert_close((value, gradients), expected)


@pytest.mark.parametrize("shape", [(0, 5), (4, 0)])
def test_nothing_is_uncorrelated(shape):
    empty = [torch.zeros(shape), torch.zeros(shape)]
    assert_close(
        (OPERATIONS["row_pearson"](*empty), OPERATIONS["damped_column_pearson"](*empty, 1e-8)),
        (torch.zeros(shape[0]), torch.zeros(shape[1])),
    )


@pytest.mark.parametrize("backend", ["eager", "blocked"])
@pytest.mark.parametrize("size", [1e-18, 1e19, 1e30])
def test_columns_whose_squares_float32_cannot_hold(backend, size, small_blocks):
    s, t = inputs("damped_column_pearson")
    s[:, ::2] *= size
    t[:, 1::2] *= size
    call = CALLS["damped_column_pearson"]
    exact, truth = value_and_gradients("eager", call, [s, t])
    value, gradients = value_and_gradients(backend, call, [s, t], dtype=torch.float32)
    assert_close(value, exact.float())
    assert_close(gradients, tuple(each.float() for each in truth), rtol=1e-5, atol=0.0)
