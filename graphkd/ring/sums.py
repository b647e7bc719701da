r"""Sums over the targets of all ranks, differentiable, of which a rank sees one block at a time.

With :math:`x_i` the rows of this rank and :math:`Y_r` the targets of rank r,

.. math:: s_i = \sum_r \sum_{j \in Y_r} f(x_i, y_j)

is what ``f(x, gather(y))`` would give. In the backward pass the blocks travel again, f is computed again, and behind
each block travels the sum of its gradients, which is at home after W steps: nothing but a rank's own rows is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import torch

from graphkd import distributed
from graphkd.ring.travel import Homeward, Rows, passing
from graphkd.typing import Tensor

Block = Callable[[Rows, Rows, int, int], Tensor]


@dataclass(frozen=True)
class Course:
    """A function of blocks, and how they travel.

    Args:
        block: of some rows of this rank, a block of targets, and the places of the first of either among the targets of
            all ranks: one row of numbers for each of this rank's (or one row in all, where ``most`` takes them all).
        travelling: how many of the tensors travel: the last ones.
        sizes: targets of each rank.
        first: place of this rank's first row among the targets of all ranks.
        most: rows of this rank that are taken at once.
    """

    block: Block
    travelling: int
    sizes: tuple[int, ...]
    first: int
    most: int

    def split(self, tensors: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """What stays, and what travels."""
        return tensors[: -self.travelling], tensors[-self.travelling :]

    def empty(self, theirs: Rows) -> bool:
        """Whether a block holds nothing, and another does: it is left out."""
        return len(theirs[0]) == 0 < sum(self.sizes)

    def parts(self, rows: int) -> Iterator[slice]:
        """Rows that are taken at once; an empty slice where there are none."""
        return (slice(k, min(k + self.most, rows)) for k in range(0, max(rows, 1), self.most))


def fold(course: Course, tensors: Rows, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The function's results of all blocks, combined; without gradient."""
    own, travelling = course.split(tensors)
    found: Tensor | None = None
    with torch.no_grad(), torch.autocast(own[0].device.type, enabled=False):
        for theirs, start in passing(tuple(travelling), course.sizes):
            if course.empty(theirs):
                continue
            parts = [
                course.block(tuple(x[part] for x in own), theirs, course.first + part.start, start)
                for part in course.parts(len(own[0]))
            ]
            value = torch.cat(parts)
            found = value if found is None else combine(found, value)
    assert found is not None
    return found


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, course: Course, *tensors: Tensor) -> Tensor:
        ctx.course = course
        ctx.context = copy_context()  # the backward pass has the backend, precision and counter of this one
        ctx.save_for_backward(*tensors)
        return fold(course, tensors, torch.add)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        distributed.once_only()
        found = ctx.context.run(_gradients, ctx.course, ctx.saved_tensors, ctx.needs_input_grad[1:], grad)
        return None, *found


@torch.compiler.disable  # type: ignore[untyped-decorator]
def total(course: Course, *tensors: Tensor) -> Tensor:
    """The sum of the function's results of all blocks; differentiable once.

    Raises: GraphError for second derivatives.
    """
    found: Tensor = _Sum.apply(course, *tensors)
    return found


def _gradients(course: Course, tensors: Rows, needed: Sequence[bool], grad: Tensor) -> list[Tensor | None]:
    own, travelling = course.split(tensors)
    of_own, of_theirs = course.split(needed)
    ours = _zeros(own, of_own)
    home = Homeward([x for x, need in zip(travelling, of_theirs, strict=True) if need], course.sizes)
    parts = list(course.parts(len(own[0])))
    with torch.autocast(grad.device.type, enabled=False):
        for theirs, start in passing(tuple(travelling), course.sizes):
            sums = _zeros(theirs, of_theirs)
            for part in [] if course.empty(theirs) else parts:
                given = grad if len(parts) == 1 else grad[part]
                inputs = [*[x[part] for x in own], *theirs]
                into = [*[x[part] for x in ours], *sums]
                _add_gradients(course, inputs, into, needed, given, course.first + part.start, start)
            home.add([x for x, need in zip(sums, of_theirs, strict=True) if need])
    back = iter(home.arrived())
    found = [x if need else None for x, need in zip(ours, of_own, strict=True)]
    return [*found, *[next(back) if need else None for need in of_theirs]]


def _zeros(rows: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor]:
    """Sums of gradients to come; where none will, the rows hold the place."""
    return [torch.zeros_like(x) if need else x for x, need in zip(rows, needed, strict=True)]


def _add_gradients(
    course: Course,
    inputs: Sequence[Tensor],
    into: Sequence[Tensor],
    needed: Sequence[bool],
    grad: Tensor,
    first: int,
    start: int,
) -> None:
    """Add the gradients of one block's result to those that are already known."""
    with torch.enable_grad():
        leaves = tuple(x.detach().requires_grad_(need) for x, need in zip(inputs, needed, strict=True))
        own, theirs = course.split(leaves)
        value = course.block(tuple(own), tuple(theirs), first, start)
    asked = [(leaf, total) for leaf, total, need in zip(leaves, into, needed, strict=True) if need]
    if not value.requires_grad:
        return
    found = torch.autograd.grad(value, [leaf for leaf, _ in asked], grad, allow_unused=True)
    for gradient, (_, known) in zip(found, asked, strict=True):
        if gradient is not None:
            known += gradient
