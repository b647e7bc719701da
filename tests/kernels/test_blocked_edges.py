"""Blocked sums over edges: value and every gradient against the dense truth in float64, whatever the input."""

from functools import partial

import pytest
import torch
from graphkd_kernels import autograd, dispatch, reference
from graphkd_kernels._blocked import blocks, joint_rows
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from tests.kernels.inputs import KINDS, randn, shaped, value_and_gradients, worst

INNER = ["gram", "cosine", "pearson"]
RELATIONS = [*INNER, "euclidean", "squared_euclidean", "rbf"]


def blocked(operation, *options):
    return lambda *tensors: dispatch.run(operation, *tensors, *options)


@pytest.fixture(autouse=True)
def by_name():
    with dispatch.backend("blocked"):
        yield


def truth(operation, *options):
    return lambda *tensors: getattr(reference, operation)(*tensors, *options)


def square(relation, path):
    return partial(autograd.apply, "edge_square", (relation, path))


def unit(path):
    options = () if path == "D x D" else ("gram", "unit", 1.0)
    return partial(autograd.apply, "unit_edges" if path == "D x D" else "edge_penalty", options)


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks of rows, several groups of graphs and several folds, at sizes of tests."""
    monkeypatch.setattr(joint_rows, "_ENTRIES", 2**9)
    monkeypatch.setattr(joint_rows, "_FOLD", 40)
    monkeypatch.setattr(joint_rows, "_PANEL", 3)
    monkeypatch.setattr(blocks, "GROUP_ENTRIES", 2**8)
    monkeypatch.setattr(blocks, "ENTRIES", 2**7)


PATHS = [
    *((f"square {relation} {path}", square(relation, path), truth("edge_sum", relation, "square")) for relation in INNER for path in ("pairs", "D x D")),
    *((f"unit {path}", unit(path), truth("unit_edge_sum")) for path in ("rows", "D x D")),
    *((f"{penalty} {relation}", blocked("edge_sum", relation, penalty, 0.1), truth("edge_sum", relation, penalty, 0.1)) for relation in RELATIONS for penalty in ("square", "huber")),
]  # fmt: skip
paths = pytest.mark.parametrize(("function", "exact"), [each[1:] for each in PATHS], ids=[each[0] for each in PATHS])


@paths
@pytest.mark.parametrize("n", [1, 2, 63, 97])
@pytest.mark.usefixtures("small_blocks")
def test_a_set_with_itself(function, exact, n):
    assert worst(function, exact, (randn(n, 65), None, randn(n, 65, seed=1), None), floor=1e-3) < 1e-12


@paths
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.usefixtures("small_blocks")
def test_sources_and_targets_of_batches(function, exact, batch):
    inputs = (randn(*batch, n, 7, seed=k) for k, n in enumerate((9, 13, 9, 13)))
    assert worst(function, exact, tuple(inputs)) < 1e-12


@paths
@pytest.mark.usefixtures("small_blocks")
def test_unequal_widths(function, exact):
    if "unit_edges" in str(function):
        pytest.skip("the difference form needs equal widths")
    assert worst(function, exact, (randn(97, 7), None, randn(97, 5, seed=1), None)) < 1e-12
    inputs = (randn(n, d, seed=n + d) for n, d in ((90, 7), (11, 7), (90, 5), (11, 5)))
    assert worst(function, exact, tuple(inputs)) < 1e-12


@paths
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_blocks")
def test_awkward_rows_in_float32(function, exact, kind):
    s, t = shaped(kind, 60, 24), shaped("plain" if kind == "expanded" else kind, 60, 24, seed=1)
    floor = 10 if kind == "expanded" else 1e-12  # equal rows: the gradient of a normalised one is 0
    assert worst(function, exact, (s, None, t, None), floor) < (2e-3 if kind == "offset" else 2e-5)


@paths
@pytest.mark.usefixtures("small_blocks")
def test_equal_networks(function, exact):
    x = randn(40, 12, dtype=torch.float32)
    value, grads = value_and_gradients(function, (x, None, x.clone(), None))
    assert 0 <= value < 1e-4
    assert all(each.isfinite().all() and each.abs().max() < 1e-2 for each in grads)


@paths
def test_a_nan_goes_out(function, exact):
    x = randn(40, 12)
    x[3, 4] = torch.nan
    value, grads = value_and_gradients(function, (x, None, randn(40, 12, seed=1), None))
    assert value.isnan()
    assert grads[0].isnan().any()


@paths
@pytest.mark.parametrize("needed", [(0,), (2,), (1, 3)])
def test_gradients_of_some_inputs(function, exact, needed):
    def grads(call):
        inputs = [randn(n, 6, seed=k).requires_grad_(k in needed) for k, n in enumerate((9, 13, 9, 13))]
        return torch.autograd.grad(call(*inputs), [inputs[k] for k in needed])

    for found, expected in zip(grads(function), grads(exact), strict=True):
        assert_close(found, expected)


@paths
@pytest.mark.usefixtures("small_blocks")
def test_second_derivatives(function, exact):
    inputs = randn(5, 3).requires_grad_(), None, randn(5, 3, seed=1).requires_grad_(), None
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@paths
def test_functorch(function, exact):
    s, t = randn(4, 9, 3), randn(4, 9, 3, seed=1)
    call, true = (lambda s, t, f=f: f(s, None, t, None) for f in (function, exact))
    assert_close(torch.func.vmap(call)(s, t), torch.func.vmap(true)(s, t))
    assert_close(torch.func.vmap(torch.func.grad(call))(s, t), torch.func.vmap(torch.func.grad(true))(s, t))


@paths
def test_compiles_without_a_break(function, exact):
    torch._dynamo.reset()
    s, t = randn(9, 4).requires_grad_(), randn(9, 4, seed=1)
    compiled = torch.compile(lambda s, t: function(s, None, t, None), backend="aot_eager", fullgraph=True)
    value = compiled(s, t)
    assert_close(value, exact(s, None, t, None))
    assert_close(torch.autograd.grad(value, s), torch.autograd.grad(exact(s, None, t, None), s))


@paths
def test_bfloat16_rows_are_compared_in_float32(function, exact):
    s, t = (randn(40, 8, seed=k, dtype=torch.bfloat16) for k in (0, 1))
    value, grads = value_and_gradients(function, (s, None, t, None), torch.ones(()))
    wide, wide_grads = value_and_gradients(function, (s.float(), None, t.float(), None), torch.ones(()))
    assert_close(value, wide, rtol=0, atol=0)
    assert [each.dtype for each in grads] == [torch.bfloat16] * 2
    assert_close(grads[0], wide_grads[0].bfloat16())


def test_two_runs_are_bit_equal():
    inputs = randn(300, 40, dtype=torch.float32), None, randn(300, 40, seed=1, dtype=torch.float32), None
    for _, function, _ in PATHS:
        first, second = (value_and_gradients(function, inputs) for _ in range(2))
        assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("d", [16, 33])
def test_the_paths_agree_where_they_meet(d):
    x, t = randn(2 * d, d, dtype=torch.float32), randn(2 * d, d, seed=1, dtype=torch.float32)
    for first, second in ((square("pearson", "pairs"), square("pearson", "D x D")), (unit("rows"), unit("D x D"))):
        a, b = (value_and_gradients(each, (x, None, t, None)) for each in (first, second))
        assert_close(a, b, rtol=1e-5, atol=1e-5)


class Largest(torch.overrides.TorchFunctionMode):
    """Remembers the most numbers that any operation returned."""

    numbers = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.numbers = max(self.numbers, found.numel())
        return found


@pytest.mark.parametrize(
    ("operation", "options"),
    [("edge_sum", ("pearson", "square")), ("unit_edge_sum", ()), ("edge_sum", ("euclidean", "huber"))],
)
def test_no_matrix_of_pairs_is_made(operation, options):
    n = 3000
    x, t = (randn(n, 16, seed=k, dtype=torch.float32) for k in (0, 1))
    with Largest() as largest:
        value_and_gradients(blocked(operation, *options), (x, None, t, None))
    assert largest.numbers < n * n / 4
