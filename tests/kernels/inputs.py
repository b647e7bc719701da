"""Inputs that break kernels, and the measure of an error."""

import torch

F64 = torch.float64


def randn(*shape, seed=0, dtype=F64):
    """Normal numbers, the same in every run and every type."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def relative(found, exact, floor=1e-12):
    """|found - exact| / |exact|; the floor is for an exact value of 0."""
    found, exact = found.detach().double(), exact.detach().double()
    return float((found - exact).norm() / exact.norm().clamp_min(floor))


def value_and_gradients(function, inputs, upstream=None):
    """The value and the gradient of every input that is there, for a random upstream gradient."""
    leaves = [None if each is None else each.detach().requires_grad_() for each in inputs]
    value = function(*leaves)
    if upstream is None:
        upstream = randn(*value.shape, seed=77, dtype=value.dtype)
    return value, torch.autograd.grad(value, [each for each in leaves if each is not None], upstream)


def worst(function, truth, inputs, floor=1e-12):
    """The largest relative error of value and gradients, against the truth in float64."""
    exact_inputs = [None if each is None else each.double() for each in inputs]
    exact, exact_grads = value_and_gradients(truth, exact_inputs)
    upstream = randn(*exact.shape, seed=77)
    found, grads = value_and_gradients(function, inputs, upstream.to(inputs[0].dtype))
    pairs = [(found, exact), *zip(grads, exact_grads, strict=True)]
    assert all(each.isfinite().all() for each, _ in pairs)
    return max(relative(*each, floor) for each in pairs)


def shaped(kind, n, d, dtype=torch.float32, seed=0):
    """Rows of one kind: plain, strided, transposed, expanded, dead (one zero and one constant), duplicates, offset."""
    x = randn(n, d, seed=seed, dtype=dtype)
    if kind == "strided":
        return randn(n, 2 * d, seed=seed, dtype=dtype)[:, ::2]
    if kind == "transposed":
        return randn(d, n, seed=seed, dtype=dtype).T
    if kind == "expanded":
        return randn(1, d, seed=seed, dtype=dtype).expand(n, d)
    if kind == "dead":
        x[0], x[-1] = 0.0, 0.1
    if kind == "duplicates":
        x[n // 2 :] = x[: n - n // 2]
    return x + 30 if kind == "offset" else x


KINDS = ["plain", "strided", "transposed", "expanded", "dead", "duplicates", "offset"]
