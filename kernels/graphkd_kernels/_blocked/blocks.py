"""How a sweep is cut into blocks of rows: small enough for the cache, large enough for a matrix product."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ENTRIES = 2**20  # of one buffer: a few of them stay in the last cache
Block = tuple[slice, slice]  # graphs, rows


def row_slices(rows: int, columns: int, entries: int = 0, least: int = 1) -> list[slice]:
    """Blocks of at most ``entries`` entries (:data:`ENTRIES` if 0), of ``least`` rows at least."""
    height = max(least, (entries or ENTRIES) // max(columns, 1))
    return [slice(i, min(i + height, rows)) for i in range(0, rows, height)]


def row_blocks(graphs: int, rows: int, columns: int) -> Iterator[Block]:
    """Blocks of a batch of matrices: whole graphs together, or rows of one graph."""
    parts = row_slices(rows, columns)
    together = max(1, ENTRIES // max(rows * columns, 1)) if len(parts) == 1 else 1
    for graph in range(0, graphs, together):
        for part in parts:
            yield slice(graph, min(graph + together, graphs)), part


def sum_computed_again(function: Callable[[slice], Tensor], parts: Sequence[slice]) -> Tensor:
    """The sum over blocks, differentiable; each is computed again in its backward pass instead of being kept."""
    return torch.stack([checkpoint(function, part, use_reentrant=False) for part in parts]).sum()
