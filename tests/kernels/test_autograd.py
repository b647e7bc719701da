"""What a Rule gets from apply: every way that PyTorch differentiates."""

import pytest
import torch
from graphkd_kernels import autograd
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from tests.kernels.inputs import randn


def cubes(needs, s, t, index, power, rows):
    """sum_j power * s_ij^3 t_ij^2, of all entries or for each row; the extra tensor is an index that is not read."""
    grads = 3 * power * s**2 * t**2 if needs[0] else None, 2 * power * s**3 * t if needs[1] else None, None
    return formula(s, t, index, power, rows), grads


def formula(s, t, index, power, rows):
    value = power * (s**3 * t**2).sum(-1)
    return value if rows else value.sum()


def late(needs, upstream, tensors, kept, *options):
    """The gradient computed in the backward pass from the inputs."""
    grads = cubes(needs, *tensors, *options)[1]
    return tuple(None if each is None else autograd.leading(upstream, each) * each for each in grads)


ASKED = []


def recorded(needs, *arguments):
    """Writes down which tensors it was asked for."""
    ASKED.append(needs)
    return cubes(needs, *arguments)


autograd.RULES |= {
    "test_cubes": autograd.Rule(cubes, formula, empty=lambda s, *others: s.new_empty(s.shape[: others[-1]])),
    "test_late": autograd.Rule(lambda needs, *arguments: (formula(*arguments), ()), formula, late),
    "test_recorded": autograd.Rule(recorded, formula),
}
rules = pytest.mark.parametrize("name", ["test_cubes", "test_late"])
shapes = pytest.mark.parametrize("rows", [False, True], ids=["scalar", "rows"])


def call(name, rows):
    return lambda s, t: autograd.apply(name, (0.5, rows), s, t, None)


@rules
@shapes
def test_first_and_second_derivatives(name, rows):
    inputs = randn(3, 4).requires_grad_(), randn(3, 4, seed=1).requires_grad_()
    assert gradcheck(call(name, rows), inputs)
    assert gradgradcheck(call(name, rows), inputs)


@rules
@pytest.mark.parametrize("which", [0, 1])
def test_gradient_of_one_input_only(name, which):
    inputs = [randn(3, 4), randn(3, 4, seed=1)]
    inputs[which].requires_grad_()
    assert gradcheck(call(name, True), inputs)
    assert gradgradcheck(call(name, True), inputs)


@rules
def test_a_third_derivative(name):
    s, t = randn(2, 3).requires_grad_(), randn(2, 3, seed=1)
    value = call(name, False)(s, t)
    for _ in range(2):
        (value,) = torch.autograd.grad(value.sum(), s, create_graph=True)
    (third,) = torch.autograd.grad(value.sum(), s)
    assert_close(third, 3 * t**2)  # of s^3 t^2 / 2


@rules
def test_a_second_backward_finds_unscaled_gradients(name):
    s, t = randn(3, 4).requires_grad_(), randn(3, 4, seed=1)
    value = 7 * call(name, False)(s, t)
    first, second = (torch.autograd.grad(value, s, retain_graph=True)[0] for _ in range(2))
    assert_close(first, second, rtol=0, atol=0)
    assert_close(first, 10.5 * s**2 * t**2)


@rules
@shapes
def test_functorch(name, rows):
    s, t = randn(5, 3, 4), randn(5, 3, 4, seed=1)
    function = call(name, rows)
    assert_close(torch.func.vmap(function)(s, t), torch.stack([function(*each) for each in zip(s, t, strict=True)]))
    assert_close(torch.func.grad(lambda s: function(s, t).sum())(s), 1.5 * s**2 * t**2)
    assert_close(torch.func.vmap(torch.func.grad(lambda s, t: function(s, t).sum()))(s, t), 1.5 * s**2 * t**2)
    small = lambda s: function(s, t[0, :1, :2]).sum()  # noqa: E731
    x = s[0, :1, :2]
    assert_close(torch.func.hessian(small)(x).reshape(2, 2), torch.diag((3 * x * t[0, :1, :2] ** 2)[0]))
    tangent = torch.func.jvp(small, (x,), (torch.ones_like(x),))[1]
    assert_close(tangent, (1.5 * x**2 * t[0, :1, :2] ** 2).sum())


@rules
def test_forward_mode_levels(name):
    s, t = randn(3, 4), randn(3, 4, seed=1)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(s, torch.ones_like(s))
        tangent = torch.autograd.forward_ad.unpack_dual(call(name, False)(dual, t)).tangent
    assert_close(tangent, (1.5 * s**2 * t**2).sum())


@rules
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_break(name, dynamic):
    torch._dynamo.reset()
    s, t = randn(3, 4).requires_grad_(), randn(3, 4, seed=1)
    compiled = torch.compile(call(name, True), backend="aot_eager", fullgraph=True, dynamic=dynamic)
    weight = randn(3, seed=2)
    value = compiled(s, t)
    (grad,) = torch.autograd.grad(value @ weight, s)
    assert_close(value, call(name, True)(s, t))
    assert_close(grad, 1.5 * weight[:, None] * s**2 * t**2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_inputs_are_computed_in_float32(dtype):
    s, t = randn(3, 4, dtype=dtype).requires_grad_(), randn(3, 4, seed=1, dtype=dtype)
    value = call("test_cubes", True)(s, t)
    assert value.dtype == torch.float32
    (grad,) = torch.autograd.grad(value.sum(), s)
    assert grad.dtype == dtype
    assert_close(grad, (1.5 * s.float() ** 2 * t.float() ** 2).to(dtype))


def product(s, t):
    """Sum of all entries of s t', by a product that autocast would run in bfloat16."""
    return (s @ t.mT).sum()


autograd.RULES["test_product"] = autograd.Rule(lambda needs, s, t: (product(s, t), (None, None)), product)


def test_autocast_is_off_inside():
    s, t = randn(8, 64, dtype=torch.float32), randn(8, 64, seed=1, dtype=torch.float32)
    outside = autograd.apply("test_product", (), s, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(autograd.apply("test_product", (), s, t), outside, rtol=0, atol=0)


def test_no_gradient_is_computed_where_none_is_wanted():
    s, t = randn(3, 4).requires_grad_(), randn(3, 4, seed=1)
    ASKED.clear()
    with torch.no_grad():
        assert not call("test_recorded", False)(s, t).requires_grad
    assert not call("test_recorded", False)(s.detach(), t).requires_grad
    assert call("test_recorded", False)(s, t).requires_grad
    assert ASKED == [(False,) * 3, (False,) * 3, (True, False, False)]


def test_an_integer_argument():
    s, t, index = randn(3, 4).requires_grad_(), randn(3, 4, seed=1), torch.arange(3)
    value = autograd.apply("test_cubes", (1.0, False), s, t, index)
    assert_close(torch.autograd.grad(value, s)[0], 3 * s**2 * t**2)


def test_a_name_is_taken_once():
    with pytest.raises(AssertionError):
        autograd.register("test_cubes", autograd.RULES["test_late"])


@rules
def test_a_second_derivative_through_the_upstream_gradient(name):
    """The upstream gradient depends on the inputs too: each way to them is taken once."""
    function = call(name, True)
    inputs = randn(3, 4).requires_grad_(), randn(3, 4, seed=1).requires_grad_()
    assert gradgradcheck(lambda s, t: (function(s**2, t) ** 2 * function(s, s * t)).sum(), inputs)
