r"""Both networks' rows side by side, and the Gram matrices of that: all that the squared edge loss needs.

For equal widths the joined rows are :math:`J = [U, V] = [S + T, S - T]`, and edges of sources s and targets t are
:math:`E = (U_s V_t^\top + V_s U_t^\top) / 2`: every term carries the difference V, nothing large is subtracted. For
unequal widths :math:`J = [S, T]` and :math:`E = S_s S_t^\top - T_s T_t^\top`. With the blocks P, Q, W of
:math:`J^\top J = \begin{pmatrix} P & W \\ W^\top & Q \end{pmatrix}` of each side,

.. math::
    \lVert E \rVert^2 = \tfrac14 (\langle P_s, Q_t \rangle + \langle Q_s, P_t \rangle)
        + \tfrac12 \langle W_s, W_t^\top \rangle
    \quad\text{or}\quad
    \langle P_s, P_t \rangle + \langle Q_s, Q_t \rangle - 2 \langle W_s, W_t \rangle,

and the gradients are J times a factor made of P, Q and W of the other side: no matrix of all pairs exists.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels._blocked.rows import map_rows, unmap_rows
from graphkd_kernels.autograd import Maybe
from graphkd_kernels.grams import Grams, join_mapped, split, symmetric

_ENTRIES = 2**19  # of one block of joined rows: 2 MiB in float32, so that its passes stay in the cache
_FOLD = 4096  # rows whose Gram is summed in float32 before it is added in float64
_PANEL = 64  # least columns of a panel of a symmetric product
_PANELS = 8


class Joined(NamedTuple):
    """A block of rows of both networks, mapped and joined; rows (b, n, d)."""

    both: Tensor
    rows: tuple[Tensor, Tensor]
    inverses: tuple[Maybe, Maybe]


def join(student: Tensor, teacher: Tensor, relation: str) -> Joined:
    """Map rows to those whose inner products are the relation, and join them."""
    (s, inverse_s), (t, inverse_t) = map_rows(student, relation), map_rows(teacher, relation)
    return Joined(join_mapped(s, t), (s, t), (inverse_s, inverse_t))


def joined_slices(batch: int, rows: int, width: int) -> list[slice]:
    """Blocks of rows that stay in the cache when joined; an empty one where there are no rows."""
    return row_slices(rows, batch * width, _ENTRIES, least=64) or [slice(0, 0)]


class JointRows:
    """Nodes of both networks in one role, sources or targets: (n, ds) or (b, n, ds), and (n, dt) or (b, n, dt)."""

    def __init__(self, student: Tensor, teacher: Tensor, relation: str) -> None:
        self.nodes, self.relation = (student, teacher), relation
        self.flat = [each.unsqueeze(0) if each.ndim == 2 else each for each in self.nodes]
        self.widths = student.shape[-1], teacher.shape[-1]
        self.only: Joined | None = None

    def blocks(self) -> Iterator[tuple[slice, Joined]]:
        """Joined rows, block by block; a single block is made once, several are made again at each pass."""
        batch, rows, _ = self.flat[0].shape
        parts = joined_slices(batch, rows, sum(self.widths))
        for part in parts:
            block = self.only or join(self.flat[0][:, part], self.flat[1][:, part], self.relation)
            if len(parts) == 1:
                self.only = block
            yield part, block

    def grams(self) -> Grams:
        """P, Q and W."""
        exact = self.widths[0] != self.widths[1]  # nothing small is left to keep the digits: float64 products
        rows = (block.both.double() if exact else block.both for _, block in self.blocks())
        return split(_upper_gram(rows), *self.widths)

    def gradients(self, factor: tuple[Tensor, Tensor], needs: Sequence[bool]) -> tuple[Maybe, Maybe]:
        """The gradients in the rows before their map, from the factors of the joined ones."""
        found = [torch.empty_like(x) if need else None for x, need in zip(self.flat, needs, strict=True)]
        small = [each.to(self.flat[0].dtype) for each in factor]
        for part, block in self.blocks():
            for into, rows, inverse, each in zip(found, block.rows, block.inverses, small, strict=True):
                if into is not None:
                    into[:, part] = unmap_rows(block.both @ each, rows, inverse, self.relation)
        of_s, of_t = (None if g is None else g.view(x.shape) for g, x in zip(found, self.nodes, strict=True))
        return of_s, of_t


def formula_grams(student: Tensor, teacher: Tensor, relation: str) -> Grams:
    """P, Q and W of all rows, in float64, differentiable."""
    row_map = reference.ROW_MAPS[relation]
    both = join_mapped(row_map(student), row_map(teacher)).double()
    return split(both.mT @ both, student.shape[-1], teacher.shape[-1])


def sum_gram(rows: Tensor) -> Tensor:
    """X'X of rows (n, d), block by block."""
    return symmetric(_upper_gram(rows[start : start + _FOLD].unsqueeze(0) for start in range(0, len(rows), _FOLD))[0])


def _upper_gram(blocks: Iterable[Tensor]) -> Tensor:
    """Sum of X'X over blocks X (b, n, w), the upper triangle of it; over many rows summed in float64."""
    total: Maybe = None
    partial: Maybe = None
    rows = 0
    for block in blocks:
        if partial is None:
            partial = block.new_zeros(len(block), block.shape[-1], block.shape[-1])
        elif rows >= _FOLD:
            total = partial.double() if total is None else total + partial
            partial, rows = torch.zeros_like(partial), 0
        _add_gram(partial, block)
        rows += block.shape[-2]
    assert partial is not None
    return partial if total is None else total + partial


def _add_gram(total: Tensor, rows: Tensor) -> None:
    """Add the upper triangle of X'X (and some of the lower) panel by panel."""
    width = rows.shape[-1]
    panels = min(_PANELS, max(1, width // _PANEL))
    edges = [width * k // panels for k in range(panels + 1)]
    for start, stop in pairwise(edges):
        total[:, start:stop, start:].baddbmm_(rows[..., start:stop].mT, rows[..., start:])
