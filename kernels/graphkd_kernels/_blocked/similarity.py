"""Matrices of all pairs that the caller wants whole: normalisation in few passes, one product in the gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.rows import MAPS, row_map
from graphkd_kernels.autograd import Maybe, Needs, Options, Rule, apply, register
from graphkd_kernels.precision import widened


class OwnGram(Rule):
    """Inner products of rows with each other; autograd would take two products for the gradient. No options."""

    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """The matrix; the gradient waits for the upstream one."""
        (x,) = tensors
        assert x is not None
        return x @ x.mT, ()

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        """(G + G') X."""
        (x,) = tensors
        assert x is not None
        return ((upstream + upstream.mT) @ x,)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The product."""
        (x,) = tensors
        assert x is not None
        return x @ x.mT


register("own_gram", OwnGram())


@widened
def similarity(x: Tensor, y: Maybe, relation: str, gamma: float = 1.0) -> Tensor:
    """A relation by name of all pairs; computed in float32 at least."""
    if relation not in MAPS:
        matrix: Tensor = reference.similarity(x, y, relation, gamma)
        return matrix
    rows = row_map(x, relation)
    return apply("own_gram", (), rows) if y is None else torch.matmul(rows, row_map(y, relation).mT)
