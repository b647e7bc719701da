"""Edges in blocks of rows: values into a buffer, a loss of these rows, its derivative back to the nodes.

No n x m matrix exists. Value and gradient are computed together, so that each block is formed once and never kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from graphkd_kernels._blocked.blocks import Block, Nodes, row_blocks
from graphkd_kernels._blocked.rows import map_rows, unmap_rows
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, as_graphs
from graphkd_kernels.plans import INNER
from graphkd_kernels.reference.distances import centered, settled, widest

Pair = tuple[bool, bool]
Rows = slice | tuple[slice, ...]
"""Of a set (n, d), or of graphs (b, n, d)."""
RowLoss = Callable[[Tensor, Tensor, Pair], tuple[Tensor, Maybe, Maybe]]
"""(student, teacher, needs) -> values and derivatives of two blocks, which only losses of inner products overwrite."""


class BlockSquares:
    """Blocks of squared distances with the digits of the reference, in the type of the nodes.

    Args:
        x, y: nodes (*b, n, d) and (*b, m, d); the same tensor for the same nodes.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.close = False  # whether a block had close rows: then gradients are summed in float64
        self._sets: dict[torch.dtype, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def block(self, rows: Rows, columns: Rows, out: Tensor, own: int | None) -> Tensor:
        """One block, in ``out``; ``own``: the column of its first row itself, in a set with itself."""

        def products(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            x, y, size_x, size_y = self._set(dtype)
            found = torch.matmul(x[rows], y[columns].mT, out=out if out.dtype == dtype else None)
            sizes = size_x[rows].unsqueeze(-1) + size_y[columns].unsqueeze(-2)
            found.mul_(-2).add_(sizes)
            if own is not None:
                found.diagonal(own, -2, -1).mul_(0)  # a NaN stays
            return found, sizes

        found = settled(self.x[rows], self.y[columns], products, own)
        self.close |= found.dtype != out.dtype
        return found if found is out else out.copy_(found)

    def to_rows(self, weights: Tensor, rows: Rows, columns: Rows) -> Tensor:
        """Half the gradient of the block's sum of w_ij |x_i - y_j|^2 to its rows."""
        x, y, *_ = self._set(widest(self.x) if self.close else self.x.dtype)
        return pull(weights, x[rows], y[columns]).to(self.x.dtype)

    def to_columns(self, weights: Tensor, rows: Rows, columns: Rows) -> Tensor:
        """The same to its columns."""
        x, y, *_ = self._set(widest(self.x) if self.close else self.x.dtype)
        return pull(weights.mT, y[columns], x[rows]).to(self.x.dtype)

    def _set(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centred nodes and their squared sizes in a type."""
        if dtype not in self._sets:
            x, y = centered(self.x, self.y, dtype)
            self._sets[dtype] = x, y, torch.linalg.vecdot(x, x), torch.linalg.vecdot(y, y)
        return self._sets[dtype]


def pull(weights: Tensor, mine: Tensor, theirs: Tensor) -> Tensor:
    """The sums of w_ij (x_i - y_j) over j."""
    weights = weights.to(mine.dtype)
    return (weights.sum(-1, keepdim=True) * mine).sub_(weights @ theirs)


class EdgeBlocks(ABC):
    """One network's matrices of a relation (b, n, m), a block at a time.

    Args:
        x, y: nodes (*b, n, d) and (*b, m, d); ``None``: the same nodes.
        scale: factor of every entry.
        needs: whether gradients of x and of y are collected.
        symmetric: of the same nodes, the derivative too is symmetric: its rows alone give the gradient, twice.
    """

    def __init__(self, x: Tensor, y: Maybe, scale: float, needs: Pair, symmetric: bool) -> None:
        self.like, self.itself, self.scale, self.needed = (x, y), y is None, scale, any(needs)
        self.times = 2 if symmetric else 1
        self.x = as_graphs(x)
        self.y = self.x if y is None else as_graphs(y)
        self.shape = (*self.x.shape[:2], self.y.shape[1])
        self.buffer = x.new_empty(0)
        # Where gradients are collected; one place for both sides where y is x.
        self.dx = torch.zeros_like(self.x) if (self.needed if self.itself else needs[0]) else None
        self.dy = None if symmetric else self.dx
        if not self.itself:
            self.dy = torch.zeros_like(self.y) if needs[1] else None

    def out(self, block: Block) -> Tensor:
        """Memory of a block, taken once and used by each: fresh pages would cost more than the arithmetic."""
        graphs, rows = (each.stop - each.start for each in block)
        size = graphs * rows * self.shape[2]
        if self.buffer.numel() < size:
            self.buffer = self.buffer.new_empty(size)
        return self.buffer[:size].view(graphs, rows, self.shape[2])

    @abstractmethod
    def entries(self, block: Block) -> Tensor:
        """Scaled relations of one block, in its memory."""

    @abstractmethod
    def collect(self, block: Block, derivative: Tensor, entries: Tensor) -> None:
        """Add what a block's derivative (in its scaled entries) gives the nodes; it may be overwritten.

        The block is the one whose entries were asked for last.
        """

    def unmapped(self, gradient: Tensor) -> Tensor:
        """The gradient of the targets, from that of their mapped rows."""
        return gradient

    def gradients(self) -> tuple[Maybe, Maybe]:
        """Of x and of y, ``None`` where not needed; of both together where y is x."""
        x, y = self.like
        if y is None:
            return None if self.dx is None else self.unmapped(self.dx).view(x.shape), None
        of_y = None if self.dy is None else self.unmapped(self.dy).view(y.shape)
        return None if self.dx is None else self.dx.view(x.shape), of_y


class InnerProducts(EdgeBlocks):
    """Inner products of mapped rows. A block of sources is mapped when its turn comes."""

    def __init__(self, x: Tensor, y: Maybe, relation: str, scale: float, needs: Pair, symmetric: bool) -> None:
        super().__init__(x, y, scale, needs, symmetric)
        self.relation = relation
        self.y, self.inverse = map_rows(self.y, relation)

    def entries(self, block: Block) -> Tensor:
        """Scaled relations of one block, in its memory."""
        self.rows = (self.y[block], None) if self.itself else map_rows(self.x[block], self.relation)
        out = self.out(block)
        return torch.baddbmm(out, self.rows[0], self.y[block[0]].mT, beta=0, alpha=self.scale, out=out)

    def collect(self, block: Block, derivative: Tensor, entries: Tensor) -> None:
        """Add what a block's derivative gives the nodes; its entries are not looked at."""
        if self.dx is not None:
            found = self.dx[block].baddbmm_(derivative, self.y[block[0]], alpha=self.times * self.scale)
            if not self.itself and self.relation != "gram":
                found.copy_(unmap_rows(found, *self.rows, self.relation))
        if self.dy is not None:
            self.dy[block[0]].baddbmm_(derivative.mT, self.rows[0], alpha=self.scale)

    def unmapped(self, gradient: Tensor) -> Tensor:
        """The gradient of the targets, from that of their mapped rows."""
        return unmap_rows(gradient, self.y, self.inverse, self.relation)


class Distances(EdgeBlocks):
    """Distances, their squares or the Gaussian of them; equal rows are at 0, without gradient."""

    def __init__(
        self, x: Tensor, y: Maybe, relation: str, gamma: float, scale: float, needs: Pair, symmetric: bool
    ) -> None:
        super().__init__(x, y, scale, needs, symmetric)
        self.relation, self.gamma, self.squares = relation, gamma, BlockSquares(self.x, self.y)

    def entries(self, block: Block) -> Tensor:
        """Scaled relations of one block, in its memory."""
        found = self.squares.block(block, block[0], self.out(block), block[1].start if self.itself else None)
        if self.relation == "euclidean":
            found.sqrt_()
        elif self.relation == "rbf":
            found.mul_(-self.gamma).exp_()
        return found if self.scale == 1 else found.mul_(self.scale)

    def collect(self, block: Block, derivative: Tensor, entries: Tensor) -> None:
        """Add what a block's derivative gives the nodes."""
        if self.relation == "euclidean":
            derivative.mul_(0.5 * self.scale**2).div_(entries).masked_fill_(entries == 0, 0.0)
        elif self.relation == "rbf":
            derivative.mul_(entries).mul_(-self.gamma)  # at distance 0 what it gives cancels
        else:
            derivative.mul_(self.scale).masked_fill_(entries == 0, 0.0)
        if self.dx is not None:
            self.dx[block].add_(self.squares.to_rows(derivative, block, block[0]), alpha=2 * self.times)
        if self.dy is not None:
            self.dy[block[0]].add_(self.squares.to_columns(derivative, block, block[0]), alpha=2)


def edge_blocks(
    x: Tensor, y: Maybe, relation: str, scale: float, needs: Needs, gamma: float = 1.0, symmetric: bool = False
) -> EdgeBlocks:
    """The relation by name, or PKT's cosine ``"pkt"``. Shapes: x (*b, n, d), y (*b, m, d)."""
    pair = needs[0], needs[1]
    if relation in INNER or relation == "pkt":
        return InnerProducts(x, y, relation, scale, pair, symmetric)
    return Distances(x, y, relation, gamma, scale, pair, symmetric)


def sweep(sides: Sequence[EdgeBlocks], loss: Callable[..., tuple[Tensor | Maybe, ...]]) -> Found:
    """Sum of a loss of rows of edges, and its gradients in the nodes of each side.

    Args:
        sides: one network's edges, or both networks'.
        loss: (block, \\*entries of each side, which sides need a derivative) -> values, and each side's derivative.
    """
    needed, totals = tuple([side.needed for side in sides]), []
    for block in row_blocks(*sides[0].shape):
        entries = [side.entries(block) for side in sides]
        values, *derivatives = loss(block, *entries, needed)
        assert values is not None
        totals.append(values.sum(dtype=torch.float64))
        for side, derivative, found in zip(sides, derivatives, entries, strict=True):
            if derivative is not None:
                side.collect(block, derivative, found)
    x = sides[0].x
    value = torch.stack(totals).sum().to(x.dtype) if totals else x.new_zeros(())
    gradients: Kept = tuple([gradient for side in sides for gradient in side.gradients()])
    return value, gradients


def compare(
    nodes: Nodes,
    needs: Needs,
    rows: RowLoss,
    relation: str,
    scale: float = 1.0,
    gamma: float = 1.0,
    symmetric: bool = False,
) -> Found:
    """Sum of a loss of two networks' rows of edges, and its gradients.

    Shapes: (*b, n, d), (*b, m, d), (*b, n, e), (*b, m, e). ``scale`` and ``symmetric`` as of :class:`EdgeBlocks`.
    """
    pairs = (nodes[0], nodes[1], needs[:2]), (nodes[2], nodes[3], needs[2:])
    sides = [edge_blocks(x, y, relation, scale, wanted, gamma, symmetric) for x, y, wanted in pairs]
    return sweep(sides, lambda block, s, t, needed: rows(s, t, needed))
