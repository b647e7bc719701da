"""Relations of two node sets in blocks of rows: values into a buffer, derivatives of the entries back to the nodes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from graphkd_kernels._blocked.row_maps import MappedRows, map_rows
from graphkd_kernels._blocked.squares import ROUNDING, subtract_sizes

ENTRIES = 2**20  # of one buffer: a few of them stay in the last cache
INNER_PRODUCTS = ("gram", "cosine", "pearson", "pkt")
Block = tuple[slice, slice]  # graphs, rows
Pair = tuple[bool, bool]


def row_blocks(graphs: int, rows: int, columns: int, entries: int = 0) -> Iterator[Block]:
    """Blocks of at most ``entries`` entries (one row at least): whole graphs together, or rows of one graph."""
    entries = entries or ENTRIES
    height = min(rows, max(1, entries // max(columns, 1)))
    together = max(1, entries // max(rows * columns, 1)) if height == rows else 1
    for graph in range(0, graphs, together):
        for row in range(0, rows, height):
            yield slice(graph, min(graph + together, graphs)), slice(row, min(row + height, rows))


class Related(ABC):
    """One network's relation matrices (b, n, m), a block at a time.

    Args:
        x, y: nodes (b, n, d) and (b, m, d); ``None``: the same nodes.
        scale: factor of every entry.
        needs: whether gradients of x and of y are collected.
    """

    def __init__(self, x: Tensor, y: Tensor | None, scale: float, needs: Pair) -> None:
        self.itself, self.scale, self.needed = y is None, scale, any(needs)
        self.needs = (True, True) if self.itself else needs
        self.shape = (len(x), x.shape[1], x.shape[1] if y is None else y.shape[1])

    def _sums(self, x: Tensor, y: Tensor) -> None:
        self.dx = torch.zeros_like(x) if self.needed and self.needs[0] else None
        self.dy = self.dx if self.itself else torch.zeros_like(y) if self.needs[1] else None

    @abstractmethod
    def entries(self, block: Block, out: Tensor) -> Tensor:
        """Scaled relations of one block, in ``out``."""

    @abstractmethod
    def collect(self, block: Block, derivative: Tensor) -> None:
        """Add what a block's derivative (in its scaled entries) gives the nodes; it may be overwritten."""

    @abstractmethod
    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Of x and of y, ``None`` where not needed; of both together where y is x."""


class InnerProducts(Related):
    """Inner products of mapped rows: Gram, cosine, Pearson. A block of sources is mapped when its turn comes."""

    def __init__(self, x: Tensor, y: Tensor | None, relation: str, scale: float, needs: Pair) -> None:
        super().__init__(x, y, scale, needs)
        self.x, self.relation = x, relation
        self.y = map_rows(x if y is None else y, relation)
        self._sums(x, self.y.rows)

    def entries(self, block: Block, out: Tensor) -> Tensor:
        """Scaled relations of one block, in ``out``."""
        targets = self.y.rows[block[0]]
        self.rows = MappedRows(self.y.rows[block]) if self.itself else map_rows(self.x[block], self.relation)
        return torch.baddbmm(out, self.rows.rows, targets.mT, beta=0, alpha=self.scale, out=out)

    def collect(self, block: Block, derivative: Tensor) -> None:
        """Add what a block's derivative gives the nodes; the block is the one whose entries were asked for last."""
        if self.dx is not None:
            found = self.dx[block].baddbmm_(derivative, self.y.rows[block[0]], alpha=self.scale)
            if not self.itself and self.relation != "gram":
                found.copy_(self.rows.gradient(found))
        if self.dy is not None:
            self.dy[block[0]].baddbmm_(derivative.mT, self.rows.rows, alpha=self.scale)

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Of x and of y, ``None`` where not needed; of both together where y is x."""
        if self.itself:
            return None if self.dx is None else self.y.gradient(self.dx), None
        return self.dx, None if self.dy is None else self.y.gradient(self.dy)


class Distances(Related):
    """Distances, their squares or the Gaussian of them; what is within the rounding is 0, without gradient."""

    def __init__(self, x: Tensor, y: Tensor | None, relation: str, gamma: float, scale: float, needs: Pair) -> None:
        super().__init__(x, y, scale, needs)
        shift = (x if y is None else y).mean(-2, keepdim=True)
        self.relation, self.gamma = relation, gamma
        self.x = x - shift
        self.y = self.x if y is None else y - shift
        self.sizes = [each.square().sum(-1) for each in (self.x, self.y)]
        self._sums(self.x, self.y)

    def entries(self, block: Block, out: Tensor) -> Tensor:
        """Scaled relations of one block, in ``out``."""
        found = torch.bmm(self.x[block], self.y[block[0]].mT, out=out)
        subtract_sizes(found, self.sizes[0][block], self.sizes[1][block[0]], ROUNDING)
        if self.relation == "euclidean":
            found.sqrt_()
        elif self.relation == "rbf":
            found.mul_(-self.gamma).exp_()
        return found.mul_(self.scale)

    def collect(self, block: Block, derivative: Tensor) -> None:
        """Add what a block's derivative gives the nodes."""
        entries = self.entries(block, torch.empty_like(derivative))
        if self.relation == "euclidean":
            derivative.mul_(0.5 * self.scale**2).div_(entries).masked_fill_(entries == 0, 0.0)
        elif self.relation == "rbf":
            derivative.mul_(entries).mul_(-self.gamma)  # at distance 0 what it gives cancels
        else:
            derivative.mul_(self.scale).masked_fill_(entries == 0, 0.0)
        x, y = self.x[block], self.y[block[0]]
        sums = derivative.sum(-1, keepdim=True), derivative.sum(-2).unsqueeze(-1)
        if self.dx is not None:
            self.dx[block].addcmul_(sums[0], x, value=2).baddbmm_(derivative, y, alpha=-2)
        if self.dy is not None:
            self.dy[block[0]].addcmul_(sums[1], y, value=2).baddbmm_(derivative.mT, x, alpha=-2)

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Of x and of y, ``None`` where not needed; of both together where y is x."""
        return self.dx, None if self.itself else self.dy


def related(x: Tensor, y: Tensor | None, relation: str, scale: float, needs: Pair, gamma: float = 1.0) -> Related:
    """The relation by name. Shapes: x (*b, n, d), y (*b, m, d)."""
    graphs = x.reshape(-1, *x.shape[-2:])
    others = None if y is None else y.reshape(-1, *y.shape[-2:])
    if relation in INNER_PRODUCTS:
        return InnerProducts(graphs, others, relation, scale, needs)
    return Distances(graphs, others, relation, gamma, scale, needs)
