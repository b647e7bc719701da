"""Closed-form gradients in autograd: a :class:`Rule` holds the mathematics, :func:`apply` makes it differentiable.

Value and gradients are computed together in the forward pass, where they share most of their work; the backward pass
multiplies by the upstream gradient (out of place: a second backward finds the saved gradient unscaled). Second
derivatives, and all of functorch (``torch.func.grad``, ``vmap``, ``jvp``), go through the rule's differentiable
formula, so that nothing is constant that should not be. Under ``torch.compile`` a second derivative is an error, as for
every custom function.
"""

from ast import literal_eval
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import wraps
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from graphkd_kernels.precision import full_precision, rounds, wide, widen

Options = tuple[Any, ...]
Needs = tuple[bool, ...]
Maybe = Tensor | None
Kept = tuple[Maybe, ...]
Found = tuple[Tensor, Kept]

OLD_COMPILER = torch.__version__ < "2.15"
"""Whether torch's compiler is not trusted: that of 2.11 cannot read a ContextVar, and gives a custom function whose
forward pass it traces a gradient of 0. Versions between were not tried."""


def first_of(tensors: Sequence[Any]) -> Tensor:
    """The first argument that is a tensor."""
    return next(each for each in tensors if isinstance(each, Tensor))


def leading(upstream: Tensor, gradient: Tensor) -> Tensor:
    """The upstream gradient, ready to multiply a gradient: the value's dimensions are leading ones."""
    return upstream.reshape(upstream.shape + (1,) * (gradient.ndim - upstream.ndim)) if upstream.ndim else upstream


def like_first(*arguments: Any) -> Tensor:
    """An empty value of the first tensor's shape."""
    return torch.empty_like(first_of(arguments), memory_format=torch.contiguous_format)


def scalar(*arguments: Any) -> Tensor:
    """An empty scalar, float32 for 16-bit tensors."""
    first = first_of(arguments)
    return first.new_empty((), dtype=wide(first.dtype))


@dataclass(frozen=True)
class Rule:
    """An operation with a closed-form gradient; one for each operation and path.

    Each function takes the tensors and then the options, as the operation does. A tensor may be ``None`` (an argument
    left out) or hold integers (never differentiated); options are hashable literals.

    Args:
        gradients: (needs, \\*tensors, \\*options) -> the value, and its gradient in each tensor that ``needs`` one,
            else ``None``: float32 for 16 bits, since it is not yet multiplied. With ``finish``, what it keeps may be
            any tensors.
        formula: (\\*tensors, \\*options) -> the same value in differentiable PyTorch, in the same class of memory.
        finish: (needs, upstream, tensors, kept, \\*options) -> the gradients of the loss, in the tensors' types. For a
            gradient that costs less once the upstream gradient is known; by default what was kept is multiplied by it.
        spread: (upstream, gradient) -> the upstream gradient as a factor of the gradient. The default is right for a
            scalar and for one value per row.
        empty: (\\*tensors, \\*options) -> a value of the right shape and type, not computed, as the compiler sees it.
        compiled: what ``torch.compile`` sees. ``"traced"``: the functions themselves. ``"operator"``: one operator
            that returns value and gradients together; for loops that a compiler should not unroll, and for kernels.
            ``"formula"``: the formula, where the gradient is no factor of the upstream one. Where plain products would
            be rounded (``precision.rounds``), and with an old compiler, all are operators.
        widens: 16-bit tensors arrive in float32; switch off for kernels that read them as they are.
    """

    gradients: Callable[..., Found]
    formula: Callable[..., Tensor]
    finish: Callable[..., Kept] | None = None
    spread: Callable[[Tensor, Tensor], Tensor] = leading
    empty: Callable[..., Tensor] = scalar
    compiled: Literal["traced", "operator", "formula"] = "traced"
    widens: bool = True


RULES: dict[str, Rule] = {}


def register(name: str, rule: Rule) -> None:
    """Make a rule known by name (Dynamo sees strings and tuples, never the rule)."""
    assert name not in RULES, name
    RULES[name] = rule


def apply(name: str, options: Options, *tensors: Maybe) -> Tensor:
    """The value of a rule, differentiable in every tensor that requires a gradient."""
    rule = RULES[name]
    if rule.widens:
        tensors = tuple(widen(each) for each in tensors)
    guard = full_precision(first_of(tensors).device)
    if guard is None:
        return _apply(rule, name, options, tensors)
    with guard:
        return _apply(rule, name, options, tensors)


def _apply(rule: Rule, name: str, options: Options, tensors: Kept) -> Tensor:
    traced = rule.compiled == "formula" and torch.compiler.is_compiling()
    if transformed() or (traced and not rounds(first_of(tensors).device.type)):
        return rule.formula(*tensors, *options)
    if torch.is_grad_enabled():
        needs = tuple([each is not None and each.requires_grad for each in tensors])
        if True in needs:
            result: Tensor = _Value.apply(name, options, needs, *tensors)
            return result
    return _gradients(name, options, (False,) * len(tensors), tensors)[0]


def transformed() -> bool:
    """Whether a functorch transform or a forward-mode level is active, which no custom function sees through."""
    if forward_ad._current_level >= 0:
        return True
    return torch._C._are_functorch_transforms_active()


def as_graphs(x: Tensor) -> Tensor:
    """(*b, n, d) to (b, n, d), also of 0 rows, which leave a -1 open."""
    return x.reshape(prod(x.shape[:-2]), *x.shape[-2:])


def _as_operator(rule: Rule, tensors: Kept) -> bool:
    """Whether a compiler sees one operator: where the rule says so, and where plain products would be rounded."""
    if not torch.compiler.is_compiling():
        return False
    return rule.compiled == "operator" or OLD_COMPILER or rounds(first_of(tensors).device.type)


def _gradients(name: str, options: Options, needs: Needs, tensors: Kept) -> Found:
    rule = RULES[name]
    if not _as_operator(rule, tensors):
        return rule.gradients(needs, *tensors, *options)
    if rule.compiled != "operator" and rule.finish is not None:
        return _operator(name, repr(options), [False] * len(needs), list(tensors))[0], ()
    value, *found = _operator(name, repr(options), list(needs), list(tensors))
    each = iter(found)
    return value, tuple([next(each) if need else None for need in needs])


def _finish(name: str, options: Options, needs: Needs, upstream: Tensor, tensors: Kept, kept: Kept) -> Kept:
    rule, operator = RULES[name], _as_operator(RULES[name], tensors)
    if rule.finish is not None and not operator:
        return rule.finish(needs, upstream, tensors, kept, *options)
    if rule.finish is not None and rule.compiled != "operator":
        each = iter(_finish_operator(name, repr(options), list(needs), upstream, list(tensors)))
        return tuple([next(each) if need else None for need in needs])
    # A gradient in 16 bits may not be there before the upstream one: a sum's overflows where a mean's does not.
    return tuple(
        None if g is None or x is None else (rule.spread(upstream, g) * g).to(x.dtype)
        for g, x in zip(kept, tensors, strict=True)
    )


@torch.library.custom_op("graphkd::rule", mutates_args=())
def _operator(name: str, options: str, needs: Sequence[bool], tensors: Sequence[Tensor | None]) -> list[Tensor]:
    rule, chosen, device = RULES[name], literal_eval(options), first_of(tensors).device
    with full_precision(device) or nullcontext():
        value, found = rule.gradients(tuple(needs), *tensors, *chosen)
        if True not in needs:
            return [value]
        if rule.finish is not None:  # with the gradients of wide tensors, which are wide
            wider = tuple([widen(each) for each in tensors])
            found = rule.finish(tuple(needs), torch.ones_like(value), wider, found, *chosen)
    return [value, *_wanted(needs, tensors, found)]


@torch.library.custom_op("graphkd::rule_finish", mutates_args=())
def _finish_operator(
    name: str, options: str, needs: Sequence[bool], upstream: Tensor, tensors: Sequence[Tensor | None]
) -> list[Tensor]:
    rule, chosen, device = RULES[name], literal_eval(options), first_of(tensors).device
    with full_precision(device) or nullcontext():
        _, kept = rule.gradients(tuple(needs), *tensors, *chosen)
        assert rule.finish is not None
        return _wanted(needs, tensors, rule.finish(tuple(needs), upstream, tuple(tensors), kept, *chosen))


def _wanted(needs: Sequence[bool], tensors: Sequence[Tensor | None], found: Kept) -> list[Tensor]:
    three = zip(found, tensors, needs, strict=True)
    return [g.to(wide(x.dtype)).contiguous() for g, x, need in three if need and g is not None and x is not None]


@_operator.register_fake
def _(name: str, options: str, needs: Sequence[bool], tensors: Sequence[Tensor | None]) -> list[Tensor]:
    return [RULES[name].empty(*tensors, *literal_eval(options)), *_like_wanted(needs, tensors)]


@_finish_operator.register_fake
def _(
    name: str, options: str, needs: Sequence[bool], upstream: Tensor, tensors: Sequence[Tensor | None]
) -> list[Tensor]:
    return _like_wanted(needs, tensors)


def _like_wanted(needs: Sequence[bool], tensors: Sequence[Tensor | None]) -> list[Tensor]:
    wanted = [each for each, need in zip(tensors, needs, strict=True) if need and each is not None]
    return [torch.empty_like(x, dtype=wide(x.dtype), memory_format=torch.contiguous_format) for x in wanted]


def _in_full_precision(backward: Callable[..., Kept]) -> Callable[..., Kept]:
    """A backward pass that keeps its precision where it is called, whatever holds there."""

    @wraps(backward)
    def run(ctx: Any, first: Tensor, *others: Tensor) -> Kept:
        guard = full_precision(first.device)
        if guard is None:
            return backward(ctx, first, *others)
        with guard:
            return backward(ctx, first, *others)

    return run


class _Value(torch.autograd.Function):
    # The old style, with ctx in forward, costs a fifth of setup_context's time; functorch never comes here.
    @staticmethod
    def forward(ctx: Any, name: str, options: Options, needs: Needs, *tensors: Maybe) -> Tensor:
        value, kept = _gradients(name, options, needs, tensors)
        ctx.rule = name, options, needs
        ctx.save_for_backward(*tensors, *kept)
        return value

    @staticmethod
    @_in_full_precision
    def backward(ctx: Any, upstream: Tensor) -> Kept:
        (name, options, needs), saved = ctx.rule, ctx.saved_tensors
        tensors, kept = saved[: len(needs)], saved[len(needs) :]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # What was kept is no input: it may be the value itself, whose graph a second backward must not enter.
            kept = [None if each is None else each.detach() for each in kept]
            found = iter(_Gradient.apply(name, options, needs, upstream, *tensors, *kept))
            return (None, None, None, *(next(found) if need else None for need in needs))
        return (None, None, None, *_finish(name, options, needs, upstream, tensors, kept))


class _Gradient(torch.autograd.Function):
    """The gradients as a function of inputs and upstream gradient: what a second backward differentiates."""

    @staticmethod
    def forward(ctx: Any, name: str, options: Options, needs: Needs, upstream: Tensor, *saved: Maybe) -> Any:
        count = len(needs)
        ctx.rule = name, options, needs, len(saved)
        ctx.save_for_backward(upstream, *saved[:count])
        found = _finish(name, options, needs, upstream, saved[:count], saved[count:])
        return tuple(each for each, need in zip(found, needs, strict=True) if need)

    @staticmethod
    @_in_full_precision
    def backward(ctx: Any, *directions: Tensor) -> Kept:
        name, options, needs, count = ctx.rule
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # Aliases: the upstream gradient may itself come from the tensors, and that way is not this node's to take.
            upstream, *saved = ctx.saved_tensors
            upstream = _alias(upstream, again)
            tensors = [_alias(each, again) if need else each for each, need in zip(saved, needs, strict=True)]
            inputs = [each for each, need in zip(tensors, needs, strict=True) if need]
            value = RULES[name].formula(*tensors, *options)
            first = torch.autograd.grad(value, inputs, upstream, create_graph=True, materialize_grads=True)
            pairs = [(g, v) for g, v in zip(first, directions, strict=True) if g.requires_grad]
            second = torch.autograd.grad(
                [g for g, _ in pairs], [upstream, *inputs], [v for _, v in pairs],
                create_graph=again, materialize_grads=True,
            )  # fmt: skip
        found = iter(second[1:])
        by_tensor = [next(found) if need else None for need in needs]
        return (None, None, None, second[0], *by_tensor, *(None,) * (count - len(needs)))


def _alias(value: Tensor, connected: bool) -> Tensor:
    return value.view_as(value) if connected and value.requires_grad else value.detach().requires_grad_()
