"""Rules whose gradient is cheaper once the upstream gradient is known: the backward pass launches kernels."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from graphkd_kernels._triton.library import KernelRule
from graphkd_kernels.autograd import Maybe, Needs, Options


class LateRule(KernelRule):
    """A rule in two halves. Compiled, it is one operator like every other, and the gradients come with the value."""

    @abstractmethod
    def start(self, options: Options, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """The value, and what :meth:`end` wants of it."""

    @abstractmethod
    def end(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        """The gradients, multiplied by the upstream gradient."""

    def spread(self, upstream: Tensor, gradient: Tensor) -> Tensor:
        """The upstream gradient, ready to multiply a gradient: the value's dimensions are leading ones."""
        return upstream.reshape(upstream.shape + (1,) * (gradient.ndim - upstream.ndim))

    def value(self, options: Options, *tensors: Maybe) -> Tensor:
        if torch.compiler.is_compiling():
            return super().value(options, *tensors)
        return self.start(options, *tensors)[0]

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        value, kept = self.start(options, *tensors)
        if True not in needs:
            return value, (None,) * len(needs)
        return value, self.end(options, needs, torch.ones_like(value), tensors, kept)

    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        if torch.compiler.is_compiling():
            return super().gradients(options, needs, *tensors)
        return self.start(options, *tensors)

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        if torch.compiler.is_compiling():
            return tuple(None if each is None else self.spread(upstream, each) * each for each in kept)
        return self.end(options, needs, upstream, tensors, kept)
