"""``similarity`` and ``gram``: matrices that the caller wants whole, of rows mapped in few passes."""

from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.rows import row_map
from graphkd_kernels.autograd import Kept, Maybe, Needs, Rule, apply, register
from graphkd_kernels.plans import INNER
from graphkd_kernels.precision import rounds, widened

__all__ = ["gram", "similarity"]


def _formula(x: Tensor, y: Maybe) -> Tensor:
    return x @ (x if y is None else y).mT


def _finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Maybe], kept: Kept) -> Kept:
    """Of rows with themselves (G + G') X: one product, where autograd would take two."""
    x, y = tensors
    if y is None:
        return (upstream + upstream.mT) @ x, None
    of_x = (upstream @ y).sum_to_size(x.shape) if needs[0] else None
    return of_x, (upstream.mT @ x).sum_to_size(y.shape) if needs[1] else None


register("products", Rule(lambda needs, x, y: (_formula(x, y), ()), _formula, _finish, empty=_formula))


@widened
def gram(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of two node sets; where the process lets plain products round, by a rule that does not."""
    return apply("products", (), x, y) if rounds(x.device.type) else _formula(x, y)


@widened
def similarity(x: Tensor, y: Maybe, relation: str, gamma: float = 1.0) -> Tensor:
    """A relation by name of all pairs; computed in float32 at least."""
    if relation not in INNER:
        return reference.similarity(x, y, relation, gamma)
    return apply("products", (), row_map(x, relation), None if y is None else row_map(y, relation))
