"""Values of all pairs of a rank's sources with everybody's targets, as passes over blocks that travel."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from graphkd.ring.sums import Course, fold, total
from graphkd.ring.travel import Rows
from graphkd.typing import Bool, Float, Tensor

Values = Callable[[Rows, Rows, int, int], Rows]

_ENTRIES = 2**20  # of the matrix of some sources by a block of targets: 4 MiB in float32


@dataclass(frozen=True)
class Pairs:
    """Matrices of this rank's sources by the targets of all ranks, of which a block exists at a time.

    Args:
        own: tensors of one row for each source.
        travelling: tensors of one row for each target that this rank holds, of one type.
        sizes: targets of each rank.
        values: of some rows of ``own``, a block of ``travelling``, and the places of the first of either among the
            targets of all ranks: matrices (sources, targets).
        first: place of this rank's first source among the targets of all ranks.
        whole: take all sources at once, where the values are no matrices but sums already.

    Example::

        pairs = Pairs((x,), (x,), (5, 3), lambda own, theirs, first, start: (own[0] @ theirs[0].T,))
        pairs.sum(lambda gram: gram.square().sum(-1, keepdim=True))  # (n, 1)
    """

    own: Rows
    travelling: Rows
    sizes: tuple[int, ...]
    values: Values
    first: int = 0
    whole: bool = False

    @property
    def targets(self) -> int:
        """Of all ranks."""
        return sum(self.sizes)

    def sum(self, of: Callable[..., Float[Tensor, "r k"]], *rows: Float[Tensor, "n any"]) -> Float[Tensor, "n k"]:
        """Sums over all targets of what ``of(*values, *rows)`` sums over those of a block; differentiable once.

        Args:
            of: one row for each source.
            rows: numbers of each source that it needs beside the values, such as results of an earlier pass.
        """
        found: Tensor = total(self._course(of), *self.own, *rows, *self.travelling)
        return found

    def maximum(self) -> Float[Tensor, "n k"]:
        """Each source's largest entry of each matrix, over all targets; without gradient."""
        return fold(self._course(_largest), (*self.own, *self.travelling), torch.maximum)

    def changed(self, change: Callable[..., Rows], *rows: Float[Tensor, "n any"]) -> "Pairs":
        """The pairs whose values are ``change(*values, *rows)``."""
        count = len(self.own)

        def values(own: Rows, theirs: Rows, first: int, start: int) -> Rows:
            return change(*self.values(own[:count], theirs, first, start), *own[count:])

        return replace(self, own=(*self.own, *rows), values=values)

    def _course(self, of: Callable[..., Tensor]) -> Course:
        count, n = len(self.own), len(self.own[0])

        def block(own: Rows, theirs: Rows, first: int, start: int) -> Tensor:
            return of(*self.values(own[:count], theirs, first, start), *own[count:])

        widest = max(x.shape[1:].numel() for x in self.travelling)  # each part reads a block: let it be as large as one
        most = n if self.whole else max(_ENTRIES // max(*self.sizes, 1), widest)
        return Course(block, len(self.travelling), self.sizes, self.first, max(most, 1))


def itself(sources: Tensor, targets: Tensor, first: int, start: int) -> Bool[Tensor, "r m"]:
    """Where a block relates a node to itself: those whose places among the targets of all ranks are the same."""
    own = torch.arange(first, first + len(sources), device=sources.device)
    return own.unsqueeze(1) == torch.arange(start, start + len(targets), device=targets.device)


def _largest(*values: Tensor) -> Tensor:
    return torch.stack([x.amax(-1) for x in values], -1)
