"""``similarity``: matrices that the caller wants whole: normalisation in few passes, one product in the gradient."""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.rows import row_map
from graphkd_kernels.autograd import Kept, Maybe, Needs, Rule, apply, register
from graphkd_kernels.plans import INNER
from graphkd_kernels.precision import widened

__all__ = ["similarity"]


def _finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor], kept: Kept) -> Kept:
    """(G + G') X: one product, where autograd would take two."""
    return ((upstream + upstream.mT) @ tensors[0],)


register("own_gram", Rule(lambda needs, x: (x @ x.mT, ()), lambda x: x @ x.mT, _finish))


@widened
def similarity(x: Tensor, y: Maybe, relation: str, gamma: float = 1.0) -> Tensor:
    """A relation by name of all pairs; computed in float32 at least."""
    if relation not in INNER:
        return reference.similarity(x, y, relation, gamma)
    rows = row_map(x, relation)
    return apply("own_gram", (), rows) if y is None else torch.matmul(rows, row_map(y, relation).mT)
