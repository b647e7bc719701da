"""Rules whose Python loops a compiler should not unroll: under ``torch.compile`` each is one operator of the graph."""

from abc import abstractmethod
from ast import literal_eval
from collections.abc import Sequence

import torch
from torch import Tensor

from graphkd_kernels.autograd import RULES, Maybe, Needs, Options, Rule


class BlockRule(Rule):
    """A rule that sweeps over blocks; :meth:`sweep` is what ``gradients`` is elsewhere.

    Attributes:
        opaque: one operator for a compiler; switch off where it gains more from fusing passes than unrolling costs it.
    """

    opaque: bool = True

    @abstractmethod
    def sweep(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """The value, and its gradient in each tensor that ``needs`` one."""

    def shape(self, *tensors: Maybe) -> tuple[int, ...]:
        """Of the value; a scalar where not said otherwise."""
        return ()

    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """The sweep."""
        if not (self.opaque and torch.compiler.is_compiling()):
            return self.sweep(options, needs, *tensors)
        name = self.name
        value, *found = _sweep(name, repr(options), list(needs), list(tensors))
        each = iter(found)
        return value, tuple([next(each) if need else None for need in needs])

    @property
    def name(self) -> str:
        """The name it is registered by."""
        return next(name for name, rule in RULES.items() if rule is self)


@torch.library.custom_op("graphkd::sweep", mutates_args=())
def _sweep(name: str, options: str, needs: Sequence[bool], tensors: Sequence[Tensor | None]) -> list[Tensor]:
    rule = RULES[name]
    assert isinstance(rule, BlockRule)
    value, gradients = rule.sweep(literal_eval(options), tuple(needs), *tensors)
    return [value, *(each for each in gradients if each is not None)]


@_sweep.register_fake
def _(name: str, options: str, needs: Sequence[bool], tensors: Sequence[Tensor | None]) -> list[Tensor]:
    rule = RULES[name]
    assert isinstance(rule, BlockRule)
    first = next(each for each in tensors if each is not None)
    found = [each for each, need in zip(tensors, needs, strict=True) if need and each is not None]
    return [
        first.new_empty(rule.shape(*tensors)),
        *(torch.empty_like(each, memory_format=torch.contiguous_format) for each in found),
    ]
