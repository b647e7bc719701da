"""``knn``: nearest neighbours, a block of rows at a time; nothing n x n exists."""

from contextlib import nullcontext

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels.autograd import transformed
from graphkd_kernels.precision import full_precision, widened
from graphkd_kernels.reference.distances import can_look, centered, is_close, widest

__all__ = ["knn"]
_ENTRIES = 2**22  # of one block of distances
_ROWS = 128  # at least, in one block: a product of fewer rows runs at half the speed
_GROUPED = 16  # columns whose least distance is looked at first


@torch.library.custom_op("graphkd::nearest", mutates_args=())
def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows, nearest first; without gradient."""
    n = len(x)
    indices = torch.empty(n, k, dtype=torch.int64, device=x.device)
    values = x.new_empty(n, k)
    search = _Search(x, k)
    with full_precision(x.device) or nullcontext():
        for rows in row_slices(n, n, _ENTRIES, _ROWS):
            indices[rows], values[rows] = search.among(rows)
    return indices, values


class _Search:
    """Neighbours by products, in float64 for a block of rows with close neighbours."""

    def __init__(self, x: Tensor, k: int) -> None:
        self.x, self.k = x, k
        self._sets: dict[torch.dtype, tuple[Tensor, Tensor, Tensor]] = {}

    def among(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Indices and squared distances of a block of rows."""
        if can_look(self.x):
            found, squares, sizes = self._by_products(rows, self.x.dtype)
            if not is_close(squares, sizes).any():
                return found, squares
        found, *_ = self._by_products(rows, widest(self.x))
        squares, order = self._by_differences(self.x[rows], found).sort(dim=-1, stable=True)
        return found.gather(1, order), squares

    def _by_differences(self, x: Tensor, found: Tensor) -> Tensor:
        parts = row_slices(len(x), self.k * x.shape[1], _ENTRIES)
        return torch.cat([(x[part].unsqueeze(1) - self.x[found[part]]).square_().sum(-1) for part in parts])

    def _by_products(self, rows: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Indices, squared distances, and sums of both squared sizes."""
        x, sizes, scores = self._set(dtype)
        block = scores[: rows.stop - rows.start]
        torch.addmm(sizes, x[rows], x.mT, alpha=-2, out=block)  # |x_j|^2 - 2 x_i x_j: |x_i|^2 does not change the order
        block.diagonal(rows.start).fill_(torch.inf)
        least, found = _smallest(block, self.k)
        own = sizes[rows].unsqueeze(-1)
        return found, least.add_(own), sizes[found] + own

    def _set(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Centred rows, their squared sizes, and a buffer, in a type."""
        if dtype not in self._sets:
            x, _ = centered(self.x, self.x, dtype)
            height = row_slices(len(x), len(x), _ENTRIES, _ROWS)[0].stop
            self._sets[dtype] = x, torch.linalg.vecdot(x, x), x.new_empty(height, len(x))
        return self._sets[dtype]


def _smallest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """topk of the smallest: a row's k least entries lie in the k groups of columns with the least minima.

    A group is every (columns / 16)-th column, so that minima are taken over whole vectors.
    """
    rows, columns = scores.shape
    groups = columns // _GROUPED
    if groups < 8 * k:
        found = scores.topk(k, dim=-1, largest=False)
        return found.values, found.indices
    whole = groups * _GROUPED
    grouped = scores[:, :whole].view(rows, _GROUPED, groups)
    chosen = grouped.amin(1).topk(k, dim=-1, largest=False, sorted=False).indices.unsqueeze(1)
    candidates = grouped.gather(2, chosen.expand(-1, _GROUPED, -1)).flatten(1)
    places = (chosen + groups * torch.arange(_GROUPED, device=scores.device).unsqueeze(-1)).flatten(1)
    if whole < columns:  # the columns left over always take part
        candidates = torch.cat([candidates, scores[:, whole:]], 1)
        rest = torch.arange(whole, columns, device=scores.device)
        places = torch.cat([places, rest.expand(rows, -1)], 1)
    found = candidates.topk(k, dim=-1, largest=False)
    return found.values, places.gather(1, found.indices)


@nearest.register_fake
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(len(x), k, dtype=torch.int64), x.new_empty(len(x), k)


@widened
def knn(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances of each row's k nearest other rows, nearest first."""
    if transformed():
        return reference.knn(x, k)
    found: tuple[Tensor, Tensor] = nearest(x.detach(), k)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return found
    return found[0], (x.unsqueeze(1) - x[found[0]]).square().sum(-1)
