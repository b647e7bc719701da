"""The k nearest neighbours of each node, a block of rows at a time; nothing n x n exists."""

import torch
from torch import Tensor

from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels._blocked.squares import ROUNDING, centered

_ENTRIES = 2**22  # of one block of distances
_ROWS = 128  # at least, in one block: a product of fewer rows runs at half the speed
_GROUPED = 16  # columns whose least distance is looked at first


def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows, nearest first; without gradient."""
    x = centered(x)
    sizes = x.square().sum(-1)
    n = len(x)
    parts = row_slices(n, n, _ENTRIES, _ROWS)
    indices = torch.empty(n, k, dtype=torch.int64, device=x.device)
    values = x.new_empty(n, k)
    scores = x.new_empty(parts[0].stop, n)
    for rows in parts:
        block = scores[: rows.stop - rows.start]
        torch.addmm(sizes, x[rows], x.mT, alpha=-2, out=block)  # |x_j|^2 - 2 x_i x_j: |x_i|^2 does not change the order
        block.diagonal(rows.start).fill_(torch.inf)
        least, indices[rows] = _smallest(block, k)
        values[rows] = _squares(least, sizes[rows].unsqueeze(-1), sizes[indices[rows]])
    return indices, values


def _squares(scores: Tensor, own: Tensor, others: Tensor) -> Tensor:
    squares = scores + own
    rounding = squares <= ROUNDING * torch.finfo(scores.dtype).eps * (own + others)  # a NaN is not, and passes
    return squares.masked_fill_(rounding, 0.0)


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
