"""Relations of two node sets in blocks of rows: values into a buffer, derivatives of the entries back to the nodes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from graphkd_kernels._blocked.row_maps import map_rows

ENTRIES = 2**19  # of one buffer: a few of them stay in the last cache
INNER_PRODUCTS = ("gram", "cosine", "pearson", "pkt")
Block = tuple[slice, slice]  # graphs, rows


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
        needed: whether a gradient is collected.
    """

    def __init__(self, x: Tensor, y: Tensor | None, scale: float, needed: bool) -> None:
        self.itself, self.scale, self.needed = y is None, scale, needed
        self.shape = (len(x), x.shape[1], x.shape[1] if y is None else y.shape[1])

    def _sums(self, x: Tensor, y: Tensor) -> None:
        if self.needed:
            self.dx = torch.zeros_like(x)
            self.dy = self.dx if self.itself else torch.zeros_like(y)

    @abstractmethod
    def entries(self, block: Block, out: Tensor) -> Tensor:
        """Scaled relations of one block, in ``out``."""

    @abstractmethod
    def collect(self, block: Block, derivative: Tensor, entries: Tensor | None) -> None:
        """Add what a block's derivative (in its scaled entries) gives the nodes; it may be overwritten."""

    @abstractmethod
    def gradients(self) -> tuple[Tensor, Tensor | None]:
        """Of x, and of y (``None`` where it is x)."""


class InnerProducts(Related):
    """Inner products of mapped rows: Gram, cosine, Pearson."""

    def __init__(self, x: Tensor, y: Tensor | None, relation: str, scale: float, needed: bool) -> None:
        super().__init__(x, y, scale, needed)
        self.x = map_rows(x, relation)
        self.y = self.x if y is None else map_rows(y, relation)
        self._sums(self.x.rows, self.y.rows)

    def entries(self, block: Block, out: Tensor) -> Tensor:
        """Scaled relations of one block, in ``out``."""
        return torch.baddbmm(
            out, self.x.rows[block], self.y.rows[block[0]].mT, beta=0, alpha=self.scale, out=out
        )

    def collect(self, block: Block, derivative: Tensor, entries: Tensor | None) -> None:
        """Add what a block's derivative gives the nodes."""
        self.dx[block].baddbmm_(derivative, self.y.rows[block[0]], alpha=self.scale)
        self.dy[block[0]].baddbmm_(derivative.mT, self.x.rows[block], alpha=self.scale)

    def gradients(self) -> tuple[Tensor, Tensor | None]:
        """Of x, and of y (``None`` where it is x)."""
        return self.x.gradient(self.dx), None if self.itself else self.y.gradient(self.dy)


def related(x: Tensor, y: Tensor | None, relation: str, scale: float, needed: bool) -> Related:
    """The relation by name. Shapes: x (*b, n, d), y (*b, m, d)."""
    graphs = x.reshape(-1, *x.shape[-2:])
    others = None if y is None else y.reshape(-1, *y.shape[-2:])
    return InnerProducts(graphs, others, relation, scale, needed)
