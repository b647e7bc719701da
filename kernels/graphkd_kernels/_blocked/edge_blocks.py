"""One network's edges in blocks of rows: values into a buffer, derivatives of the entries back to the nodes."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from graphkd_kernels._blocked.blocks import Block
from graphkd_kernels._blocked.rows import MAPS, map_rows, unmap_rows
from graphkd_kernels._blocked.squares import BlockSquares
from graphkd_kernels.autograd import Maybe

Pair = tuple[bool, bool]


class EdgeBlocks(ABC):
    """A relation's matrices (b, n, m), a block at a time.

    Args:
        x, y: nodes (b, n, d) and (b, m, d); ``None``: the same nodes.
        scale: factor of every entry.
        needs: whether gradients of x and of y are collected.
        symmetric: of the same nodes, the derivative too is symmetric: its rows alone give the gradient, twice.
    """

    def __init__(self, x: Tensor, y: Maybe, scale: float, needs: Pair, symmetric: bool) -> None:
        self.itself, self.scale, self.needed = y is None, scale, any(needs)
        self.needs = (True, not symmetric) if self.itself else needs
        self.times = 2 if symmetric else 1
        self.shape = (len(x), x.shape[1], x.shape[1] if y is None else y.shape[1])

    def _sums(self, x: Tensor, y: Tensor) -> None:
        """Where gradients are collected; one place for both sides where y is x."""
        self.dx = torch.zeros_like(x) if self.needed and self.needs[0] else None
        wanted = self.needed and self.needs[1]
        self.dy = None if not wanted else self.dx if self.itself else torch.zeros_like(y)

    @abstractmethod
    def entries(self, block: Block, out: Tensor) -> Tensor:
        """Scaled relations of one block, in ``out``."""

    @abstractmethod
    def collect(self, block: Block, derivative: Tensor, entries: Tensor) -> None:
        """Add what a block's derivative (in its scaled entries) gives the nodes; it may be overwritten.

        The block is the one whose entries were asked for last.
        """

    @abstractmethod
    def gradients(self) -> tuple[Maybe, Maybe]:
        """Of x and of y, ``None`` where not needed; of both together where y is x."""


class InnerProducts(EdgeBlocks):
    """Inner products of mapped rows. A block of sources is mapped when its turn comes."""

    def __init__(self, x: Tensor, y: Maybe, relation: str, scale: float, needs: Pair, symmetric: bool) -> None:
        super().__init__(x, y, scale, needs, symmetric)
        self.x, self.relation = x, relation
        self.y, self.inverse = map_rows(x if y is None else y, relation)
        self._sums(x, self.y)

    def entries(self, block: Block, out: Tensor) -> Tensor:
        """Scaled relations of one block, in ``out``."""
        self.rows = (self.y[block], None) if self.itself else map_rows(self.x[block], self.relation)
        return torch.baddbmm(out, self.rows[0], self.y[block[0]].mT, beta=0, alpha=self.scale, out=out)

    def collect(self, block: Block, derivative: Tensor, entries: Tensor) -> None:
        """Add what a block's derivative gives the nodes; its entries are not looked at."""
        if self.dx is not None:
            found = self.dx[block].baddbmm_(derivative, self.y[block[0]], alpha=self.times * self.scale)
            if not self.itself and self.relation != "gram":
                found.copy_(unmap_rows(found, *self.rows, self.relation))
        if self.dy is not None:
            self.dy[block[0]].baddbmm_(derivative.mT, self.rows[0], alpha=self.scale)

    def gradients(self) -> tuple[Maybe, Maybe]:
        """Of x and of y, ``None`` where not needed; of both together where y is x."""
        if self.itself:
            return self._unmapped(self.dx), None
        return self.dx, self._unmapped(self.dy)

    def _unmapped(self, gradient: Maybe) -> Maybe:
        return None if gradient is None else unmap_rows(gradient, self.y, self.inverse, self.relation)


class Distances(EdgeBlocks):
    """Distances, their squares or the Gaussian of them; equal rows are at 0, without gradient."""

    def __init__(
        self, x: Tensor, y: Maybe, relation: str, gamma: float, scale: float, needs: Pair, symmetric: bool
    ) -> None:
        super().__init__(x, y, scale, needs, symmetric)
        self.relation, self.gamma = relation, gamma
        others = x if y is None else y
        self.squares = BlockSquares(x, others)
        self._sums(x, others)

    def entries(self, block: Block, out: Tensor) -> Tensor:
        """Scaled relations of one block, in ``out``."""
        found = self.squares.block(block, block[0], out, block[1].start if self.itself else None)
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

    def gradients(self) -> tuple[Maybe, Maybe]:
        """Of x and of y, ``None`` where not needed; of both together where y is x."""
        return self.dx, None if self.itself else self.dy


def edge_blocks(
    x: Tensor, y: Maybe, relation: str, scale: float, needs: Pair, gamma: float = 1.0, symmetric: bool = False
) -> EdgeBlocks:
    """The relation by name, or PKT's cosine ``"pkt"``. Shapes: x (*b, n, d), y (*b, m, d)."""
    graphs = x.reshape(-1, *x.shape[-2:])
    others = None if y is None else y.reshape(-1, *y.shape[-2:])
    if relation in MAPS or relation == "pkt":
        return InnerProducts(graphs, others, relation, scale, needs, symmetric)
    return Distances(graphs, others, relation, gamma, scale, needs, symmetric)
