"""Blocked row maps, node terms, EGA's sums and similarities against the dense truth; precision near convergence."""

from functools import partial

import pytest
import torch
from graphkd_kernels import autograd, dispatch, explain, reference
from graphkd_kernels._blocked import OPERATIONS, joint_gram, joint_rows
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import graphkd
from tests.kernels.inputs import F64, KINDS, randn, relative, shaped, value_and_gradients, worst

INNER = ["gram", "cosine", "pearson"]
inner = pytest.mark.parametrize("relation", INNER)
each_path = pytest.mark.parametrize("path", ["pairs", "D x D"])


@pytest.mark.parametrize("name", ["center_normalize", "unit_rows"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_row_maps(name, kind, dtype):
    function, truth = OPERATIONS[name], getattr(reference, name)
    bound = 1e-11 if dtype == F64 else 5e-6
    assert worst(function, truth, (shaped(kind, 20, 33, dtype),)) < bound


@pytest.mark.parametrize("name", ["center_normalize", "unit_rows"])
def test_row_maps_in_every_way_of_differentiation(name):
    function, truth = OPERATIONS[name], getattr(reference, name)
    x = randn(3, 4).requires_grad_()
    assert gradcheck(function, x)
    assert gradgradcheck(function, x)
    assert_close(torch.func.vmap(function)(randn(2, 3, 4)), truth(randn(2, 3, 4)))
    assert function(x.bfloat16()).dtype == torch.bfloat16
    torch._dynamo.reset()
    assert_close(torch.compile(function, backend="aot_eager", fullgraph=True)(x), truth(x))


@pytest.mark.parametrize("name", ["center_normalize", "unit_rows"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_dead_rows_and_nan_rows(name, scale):
    x = scale * randn(4, 9, dtype=torch.float32)
    x[0], x[1] = 0.0, torch.nan
    y, (grad,) = value_and_gradients(OPERATIONS[name], (x,))
    assert (y[0] == 0).all()
    assert (grad[0] == 0).all()
    assert y[1].isnan().any()
    assert_close(y[2:], getattr(reference, name)(x[2:]), rtol=1e-4, atol=1e-6)


@inner
@each_path
@pytest.mark.parametrize("n", [1, 2, 63])
def test_ega_sums(relation, path, n, monkeypatch):
    monkeypatch.setattr(joint_rows, "_ENTRIES", 2**9)
    function = partial(autograd.apply, "ega_sums", (relation, path))
    inputs = randn(n, 17), randn(n, 17, seed=1)
    assert worst(function, lambda s, t: reference.ega_sums(s, t, relation), inputs, floor=1e-3) < 1e-12


@each_path
def test_ega_sums_in_every_way_of_differentiation(path):
    function = partial(autograd.apply, "ega_sums", ("pearson", path))
    s, t = randn(5, 4).requires_grad_(), randn(5, 4, seed=1).requires_grad_()
    assert gradcheck(function, (s, t))
    assert gradgradcheck(function, (s, t))
    batch = randn(2, 5, 4), randn(2, 5, 4, seed=1)
    expected = torch.stack([reference.ega_sums(a, b, "pearson") for a, b in zip(*batch, strict=True)])
    assert_close(torch.func.vmap(function)(*batch), expected)
    torch._dynamo.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    assert_close(torch.autograd.grad(compiled(s, t)[0], s), torch.autograd.grad(function(s, t)[0], s))


@inner
@each_path
@pytest.mark.parametrize(("target", "everyone"), [("identity", False), ("gram", True), ("gram", False)])
@pytest.mark.parametrize("offset", [0, 3])
def test_node_sum(relation, path, target, everyone, offset):
    m = 9 if target == "gram" and not everyone else 12
    inputs = randn(m, 5), randn(9, 5, seed=1), randn(m, 5, seed=2) if everyone else None
    offset = min(offset, m - 9)

    def function(*tensors):
        return autograd.apply("node_sum", (relation, target, offset, path), *tensors)

    def truth(student, teacher, others):
        return reference.node_sum(student, teacher, relation, target, offset, others)

    assert worst(function, truth, inputs) < 1e-12
    small = [None if each is None else each[:, :3].requires_grad_() for each in inputs]
    assert gradgradcheck(function, small)


@pytest.mark.parametrize("relation", [*INNER, "euclidean", "squared_euclidean", "rbf"])
def test_similarity(relation):
    function, truth = OPERATIONS["similarity"], reference.similarity
    x, y = randn(2, 7, 5), randn(2, 4, 5, seed=1)
    assert worst(lambda x: function(x, None, relation), lambda x: truth(x, None, relation), (x,)) < 1e-12
    assert worst(lambda x, y: function(x, y, relation), lambda x, y: truth(x, y, relation), (x, y)) < 1e-12
    assert gradgradcheck(lambda x: function(x, None, relation), x[0].requires_grad_())


# precision: errors relative to float64 where the student is close to its teacher


def near(eps, n, d):
    """A student that is its teacher plus noise, unit rows, and both in float64."""
    teacher = torch.nn.functional.normalize(randn(n, d), dim=1).float()
    student = torch.nn.functional.normalize(teacher.double() + eps * randn(n, d, seed=1) / d**0.5, dim=1).float()
    return student, teacher


@pytest.mark.parametrize("eps", [1.0, 0.1, 1e-2, 1e-3])
@pytest.mark.parametrize(("n", "d", "path"), [(600, 64, "D x D"), (200, 128, "pairs")])
def test_differences_keep_their_digits(eps, n, d, path):
    student, teacher = near(eps, n, d)
    exact, (grad, _) = value_and_gradients(
        lambda s, t: reference.edge_sum(s, None, t, None, "gram", "square"),
        (student.double(), teacher.double()),
        _one(F64),
    )
    found, (ours, _) = value_and_gradients(
        lambda s, t: autograd.apply("edge_square", ("gram", path), s, None, t, None), (student, teacher), _one()
    )
    assert relative(found, exact) < 1e-6
    assert relative(ours, grad) < 2e-6


def _one(dtype=torch.float32):
    return torch.ones((), dtype=dtype)


@pytest.mark.parametrize("eps", [1e-1, 1e-2, 1e-3])
def test_unit_rows_keep_their_digits(eps):
    student, teacher = near(eps, 600, 64)
    exact, (grad, _) = value_and_gradients(
        lambda s, t: reference.unit_edge_sum(s, None, t, None), (student.double(), 3 * teacher.double()), _one(F64)
    )
    found, (ours, _) = value_and_gradients(
        lambda s, t: autograd.apply("unit_edges", (), s, None, t, None), (student, 3 * teacher), _one()
    )
    assert relative(found, exact) < 1e-4  # the dense form keeps 1e-7; 2 - 2c alone would lose 2e-3
    assert relative(ours, grad) < 2e-3


@pytest.mark.parametrize("name", ["eager", "blocked", "auto"])
def test_exact_precision_computes_in_float64(name):
    student, teacher = near(1e-3, 300, 32)
    exact = reference.edge_sum(student.double(), None, teacher.double(), None, "pearson", "square")
    with graphkd.backend(name, precision="exact"):
        x = student.requires_grad_()
        found = graphkd.ops.edge_sum(x, None, teacher, None, "pearson")
        (grad,) = torch.autograd.grad(found, x)
    assert found.dtype == grad.dtype == torch.float32
    assert relative(found, exact) < 1e-7


def test_a_precision_that_is_not_there():
    with (
        pytest.raises(graphkd.errors.BackendError, match="unknown precision 'low'; known: exact, float32, high"),
        graphkd.backend("auto", "low"),
    ):
        pass


@pytest.mark.parametrize(
    ("operation", "shapes", "options", "backend", "path"),
    [
        ("edge_sum", [(4096, 512), None, (4096, 512), None], ("pearson", "square"), "blocked", "D x D"),
        ("edge_sum", [(256, 512), None, (256, 512), None], ("pearson", "square"), "blocked", "pairs"),
        ("edge_sum", [(64, 2048, 49), None, (64, 2048, 49), None], ("cosine", "square"), "blocked", "D x D"),
        ("edge_sum", [(4096, 512), None, (4096, 512), None], ("pearson", "huber"), "blocked", "rows"),
        ("unit_edge_sum", [(16, 25088), None, (16, 25088), None], (), "eager", "dense"),
        ("unit_edge_sum", [(8192, 256), None, (8192, 256), None], (), "blocked", "D x D"),
        ("node_sum", [(4096, 512), (4096, 512)], ("pearson", "identity"), "blocked", "D x D"),
        ("center_normalize", [(8, 8)], (), "blocked", "rows"),
        ("row_kl", [(8, 8), (8, 8)], (4.0,), "eager", "dense"),
        ("damped_column_pearson", [(800, 800), (800, 800)], (1e-8,), "blocked", "blocks"),
    ],
)
def test_plans(operation, shapes, options, backend, path):
    found = explain(operation, shapes, *options)
    assert (found.plan.backend, found.plan.path) == (backend, path)
    assert found.plan.flops > 0
    assert f"{operation}: {backend}, {path}" in str(found)


@inner
@pytest.mark.parametrize("width", [5, 7])
@pytest.mark.parametrize("n", [0, 1, 63])
def test_joint_gram(relation, width, n, monkeypatch):
    monkeypatch.setattr(joint_rows, "_ENTRIES", 2**9)

    def function(student, teacher):
        return joint_gram.joint_gram(student, teacher, relation)

    def truth(student, teacher):
        return reference.joint_gram(student, teacher, relation)

    inputs = randn(n, 5), randn(n, width, seed=1)
    assert worst(function, truth, inputs) < 1e-11
    assert function(*(x.float() for x in inputs)).dtype == (torch.float32 if width == 5 else F64)


def test_joint_gram_of_many_rows_and_twice_differentiated(monkeypatch):
    monkeypatch.setattr(joint_rows, "_FOLD", 16)

    def function(student, teacher):
        return joint_gram.joint_gram(student, teacher, "pearson")

    rows = [x.requires_grad_() for x in (randn(3, 4), randn(3, 4, seed=1))]
    assert gradcheck(function, rows)
    assert gradgradcheck(function, rows)
    many = randn(500, 4, dtype=torch.float32), randn(500, 4, seed=1, dtype=torch.float32)
    assert worst(function, lambda s, t: reference.joint_gram(s, t, "pearson"), many) < 5e-6
    for backend in ("eager", "auto"):
        with graphkd.backend(backend):
            assert_close(dispatch.run("joint_gram", *many, "pearson"), function(*many))
