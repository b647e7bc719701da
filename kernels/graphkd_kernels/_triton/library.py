"""Rules made of kernel launches: called directly, under torch.compile through one opaque operator."""

from abc import abstractmethod
from ast import literal_eval
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from graphkd_kernels import autograd
from graphkd_kernels._triton import unfit
from graphkd_kernels.autograd import Maybe, Needs, Options


class KernelRule(autograd.Rule):
    """A rule computed by kernels. It takes 16-bit tensors as they are, and may be asked for the value alone."""

    widens = False

    @abstractmethod
    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """As :meth:`Rule.gradients`, by launching kernels; gradients contiguous, in their tensors' types."""

    def empty(self, options: Options, *tensors: Maybe) -> Tensor:
        """A value of the right shape and type, not computed: what the compiler sees. A scalar unless overridden."""
        return first(tensors).new_empty((), dtype=wide(first(tensors).dtype))

    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        if not torch.compiler.is_compiling():
            return self.compute(options, needs, *tensors)
        value, *found = _compute(self.name, repr(options), list(needs), list(tensors))
        rest = iter(found)
        return value, tuple(next(rest) if need else None for need in needs)

    name: str = ""


def register(name: str, rule: KernelRule) -> None:
    """Make a rule known by name, to autograd and to the operator."""
    rule.name = name
    autograd.register(name, rule)


def first(tensors: Sequence[Maybe]) -> Tensor:
    """The first tensor that is there."""
    return next(each for each in tensors if each is not None)


def there(*tensors: Maybe) -> tuple[Tensor, ...]:
    """Tensors that must be there, as the type checker has to be told."""
    assert all(each is not None for each in tensors)
    return cast(tuple[Tensor, ...], tensors)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of values: float32 for 16-bit inputs."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def fit(*tensors: Maybe) -> None:
    """Raises: BackendUnavailableError for tensors where no kernels run; ValueError for several devices."""
    from graphkd_kernels.dispatch import BackendUnavailableError  # dispatch imports the table of kernels

    there = [each for each in tensors if each is not None]
    why = unfit(there[0])
    if why is not None:
        raise BackendUnavailableError(f"backend 'triton' cannot run: {why}")
    devices = {each.device for each in there}
    if len(devices) > 1:
        raise ValueError(f"tensors are on {', '.join(sorted(map(str, devices)))}: move them to one device")


def _rule(name: str) -> KernelRule:
    rule = autograd.RULES[name]
    assert isinstance(rule, KernelRule)
    return rule


@torch.library.custom_op("graphkd::kernels", mutates_args=())
def _compute(name: str, options: str, needs: Sequence[bool], tensors: Sequence[Tensor | None]) -> list[Tensor]:
    value, found = _rule(name).compute(literal_eval(options), tuple(needs), *tensors)
    return [value, *(each for each, need in zip(found, needs, strict=True) if need and each is not None)]


@_compute.register_fake
def _(name: str, options: str, needs: Sequence[bool], tensors: Sequence[Tensor | None]) -> list[Tensor]:
    value = _rule(name).empty(literal_eval(options), *tensors)
    found = [
        torch.empty_like(each, memory_format=torch.contiguous_format)
        for each, need in zip(tensors, needs, strict=True)
        if need and each is not None
    ]
    return [value, *found]
