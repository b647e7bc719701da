"""The k nearest neighbours of each node, a block of rows at a time; nothing n x n exists."""

import torch
from torch import Tensor

from graphkd_kernels._blocked.squares import ROUNDING, centered, subtract_sizes

_ENTRIES = 2**22  # of one block of distances
_GROUP = 16  # columns whose least distance is looked at first


def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows, nearest first; without gradient."""
    x = centered(x)
    sizes = x.square().sum(-1)
    n, height = len(x), max(1, _ENTRIES // len(x))
    indices = torch.empty(n, k, dtype=torch.int64, device=x.device)
    values = x.new_empty(n, k)
    for i in range(0, n, height):
        rows = slice(i, min(i + height, n))
        squares = subtract_sizes(x[rows] @ x.mT, sizes[rows], sizes, ROUNDING)
        squares.diagonal(i).fill_(torch.inf)
        values[rows], indices[rows] = _smallest(squares, k)
    return indices, values


def _smallest(squares: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """topk of the smallest: a row's k least entries lie in the k groups of columns with the least minima."""
    rows, columns = squares.shape
    whole = columns // _GROUP * _GROUP
    groups = whole // _GROUP
    if groups < 8 * k:
        found = squares.topk(k, dim=-1, largest=False)
        return found.values, found.indices
    grouped = squares[:, :whole].view(rows, groups, _GROUP)
    chosen = grouped.amin(-1).topk(k, dim=-1, largest=False, sorted=False).indices
    candidates = grouped.gather(1, chosen.unsqueeze(-1).expand(-1, -1, _GROUP)).flatten(1)
    places = (chosen.unsqueeze(-1) * _GROUP + torch.arange(_GROUP, device=squares.device)).flatten(1)
    if whole < columns:  # the last, incomplete group always takes part
        candidates = torch.cat([candidates, squares[:, whole:]], 1)
        rest = torch.arange(whole, columns, device=squares.device)
        places = torch.cat([places, rest.expand(rows, -1)], 1)
    found = candidates.topk(k, dim=-1, largest=False)
    return found.values, places.gather(1, found.indices)
