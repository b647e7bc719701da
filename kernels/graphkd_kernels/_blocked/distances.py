"""``squared_distances``: matrices that the caller wants whole, whose products keep their digits.

Where the process lets plain float32 products round their factors, the gradient is that of the formula, computed again
where nothing rounds.
"""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels.autograd import Kept, Needs, Rule, apply, register
from graphkd_kernels.precision import rounds, widened

__all__ = ["squared_distances"]


def _finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: Kept) -> Kept:
    with torch.enable_grad():
        leaves = [each.detach().requires_grad_(need) for each, need in zip(tensors, needs, strict=True)]
        squares = reference.squared_distances(*leaves)
    wanted = [each for each in leaves if each.requires_grad]
    found = iter(torch.autograd.grad(squares, wanted, upstream))
    return tuple(next(found) if need else None for need in needs)


register(
    "squared_distances",
    Rule(
        lambda needs, x, y: (reference.squared_distances(x, y), ()),
        reference.squared_distances,
        _finish,
        empty=lambda x, y: (x[..., :1] @ y[..., :1].mT).detach(),
    ),
)


@widened
def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances of two node sets; equal nodes are at 0, without gradient."""
    if rounds(x.device.type):
        return apply("squared_distances", (), x, y)
    return reference.squared_distances(x, y)
