"""Squared distances of two node sets a block at a time, and what their gradient is to the nodes."""

import torch
from torch import Tensor

from graphkd_kernels.reference.distances import centered, settled, widest

Rows = slice | tuple[slice, ...]
"""Of a set (n, d), or of graphs (b, n, d)."""


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
