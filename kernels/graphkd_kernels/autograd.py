"""Closed-form gradients in autograd: a :class:`Rule` says the mathematics, :func:`apply` makes it differentiable.

Value and gradients are computed together in the forward pass, where they share most of their work; the backward pass
multiplies by the upstream gradient (out of place: a second backward finds the saved gradient unscaled). Second
derivatives, and all of functorch (``torch.func.grad``, ``vmap``, ``jvp``), go through the rule's differentiable
formula, so that nothing is constant that should not be. Under ``torch.compile`` a second derivative is an error, as for
every custom function.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from graphkd_kernels.precision import no_autocast, widen

Options = tuple[Any, ...]
Needs = tuple[bool, ...]
Maybe = Tensor | None


class Rule(ABC):
    """An operation with a closed-form gradient. Stateless; one for each operation and path.

    Its tensors may be ``None`` (an absent argument) or integers (never differentiated); ``options`` are hashable.

    Attributes:
        widens: 16-bit inputs arrive in float32; switch off for kernels that read them as they are.
    """

    widens: bool = True

    def value(self, options: Options, *tensors: Maybe) -> Tensor:
        """The value alone, where no gradient is wanted."""
        return self.gradients(options, (False,) * len(tensors), *tensors)[0]

    @abstractmethod
    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """The value, and its gradient in each tensor that ``needs`` one, else ``None``."""

    @abstractmethod
    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The same value in differentiable PyTorch, in the same class of memory."""

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        """Gradients of the loss, from the upstream gradient and what :meth:`gradients` returned beside the value.

        As it stands right for a scalar, and for one value per row (leading dimensions). A rule may override it where
        the gradient costs less once the upstream gradient is known; ``gradients`` may then return any tensors.
        """
        return tuple(None if each is None else _leading(upstream, each) * each for each in kept)


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
    first = next(each for each in tensors if each is not None)
    guard = no_autocast(first.device)
    if guard is None:
        return _apply(rule, name, options, tensors)
    with guard:
        return _apply(rule, name, options, tensors)


def _apply(rule: Rule, name: str, options: Options, tensors: tuple[Maybe, ...]) -> Tensor:
    if transformed():
        return rule.formula(options, *tensors)
    if torch.is_grad_enabled():
        needs = tuple([each is not None and each.requires_grad for each in tensors])
        if True in needs:
            result: Tensor = _Value.apply(name, options, needs, *tensors)
            return result
    return rule.value(options, *tensors)


def transformed() -> bool:
    """Whether a functorch transform or a forward-mode level is active, which no custom function sees through."""
    if forward_ad._current_level >= 0:
        return True
    return torch._C._are_functorch_transforms_active()


class _Value(torch.autograd.Function):
    # The old style, with ctx in forward, costs a fifth of setup_context's time; functorch never comes here.
    @staticmethod
    def forward(ctx: Any, name: str, options: Options, needs: Needs, *tensors: Maybe) -> Tensor:
        value, kept = RULES[name].gradients(options, needs, *tensors)
        ctx.rule = name, options, needs
        ctx.save_for_backward(*tensors, *kept)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Maybe, ...]:
        name, options, needs = ctx.rule
        count, saved = len(needs), ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # What was kept is no input: it may be the value itself, whose graph a second backward must not enter.
            kept = [None if each is None else each.detach() for each in saved[count:]]
            found = iter(_Gradient.apply(name, options, needs, upstream, *saved[:count], *kept))
            return (None, None, None, *(next(found) if need else None for need in needs))
        return (None, None, None, *RULES[name].finish(options, needs, upstream, saved[:count], saved[count:]))


class _Gradient(torch.autograd.Function):
    """The gradients as a function of inputs and upstream gradient: what a second backward differentiates."""

    @staticmethod
    def forward(ctx: Any, name: str, options: Options, needs: Needs, upstream: Tensor, *saved: Maybe) -> Any:
        count = len(needs)
        ctx.rule = name, options, needs, len(saved)
        ctx.save_for_backward(upstream, *saved[:count])
        found = RULES[name].finish(options, needs, upstream, saved[:count], saved[count:])
        return tuple(each for each, need in zip(found, needs, strict=True) if need)

    @staticmethod
    def backward(ctx: Any, *directions: Tensor) -> tuple[Maybe, ...]:
        name, options, needs, count = ctx.rule
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # Aliases: the upstream gradient may itself come from the tensors, and that way is not this node's to take.
            upstream, *saved = ctx.saved_tensors
            upstream = _alias(upstream, again)
            tensors = [_alias(each, again) if need else each for each, need in zip(saved, needs, strict=True)]
            inputs = [each for each, need in zip(tensors, needs, strict=True) if need]
            value = RULES[name].formula(options, *tensors)
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


def _leading(upstream: Tensor, like: Tensor) -> Tensor:
    return upstream.reshape(upstream.shape + (1,) * (like.ndim - upstream.ndim)) if upstream.ndim else upstream
