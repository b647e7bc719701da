"""How a sweep is cut into blocks: small enough for the cache, large enough for a matrix product."""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graphkd_kernels.autograd import Found, Maybe, Needs, as_graphs, transformed

ENTRIES = 2**20  # of one buffer: a few of them stay in the last cache
GROUP_ENTRIES = 2**19  # of the intermediate results of graphs that are taken together: 2 MiB in float32
Block = tuple[slice, slice]  # graphs, rows
Nodes = tuple[Tensor, Maybe, Tensor, Maybe]
"""Students' sources and targets, teachers' sources and targets; targets ``None`` are the sources."""


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


def formula_by_rows(truth: Callable[..., Tensor], count: int) -> Callable[..., Tensor]:
    """A sum over rows of edges, differentiable, on blocks of rows.

    Args:
        truth: the reference. Its first and third tensor have a row, or an index, for each row of edges.
        count: of its tensors.
    """

    def formula(*arguments: Any) -> Tensor:
        tensors, options = arguments[:count], arguments[count:]
        first, others = tensors[0], tensors[0] if tensors[1] is None else tensors[1]
        parts = row_slices(first.shape[-2], others[..., 0].numel())
        if len(parts) <= 1 or transformed():
            return truth(*arguments)
        whole = [tensors[i - 1] if i % 2 and each is None else each for i, each in enumerate(tensors)]

        def block(part: slice) -> Tensor:
            rows = list(whole)
            for i in (0, 2):
                rows[i] = whole[i][..., part, :] if whole[i].is_floating_point() else whole[i][..., part]
            return truth(*rows, *options)

        return sum_computed_again(block, parts)

    return formula


def in_groups(compute: Callable[[Nodes, Needs], Found], needs: Needs, tensors: Nodes, width: int) -> Found:
    """Sum of the values, and the gradients, of a batch of graphs, as many together as the cache holds.

    Args:
        compute: value and gradients of graphs (b, n, d).
        needs: which gradients are wanted.
        tensors: of equal batch dimensions.
        width: entries of a graph's intermediate results for each row.
    """
    there = [each for each in tensors if each is not None]
    most = max(1, GROUP_ENTRIES // max(1, max(each.shape[-2] for each in there) * width))
    flat = [None if each is None else as_graphs(each) for each in tensors]
    parts = [
        compute(cast(Nodes, tuple(None if each is None else each[start : start + most] for each in flat)), needs)
        for start in range(0, prod(there[0].shape[:-2]), most)
    ]
    value, found = parts[0]
    if len(parts) > 1:
        value = torch.stack([each.double() for each, _ in parts]).sum()
        found = tuple(_cat(each) for each in zip(*(grads for _, grads in parts), strict=True))
    return value.to(there[0].dtype), tuple(
        None if g is None or x is None else g.reshape(x.shape) for g, x in zip(found, tensors, strict=True)
    )


def _cat(parts: Sequence[Maybe]) -> Maybe:
    found = [each for each in parts if each is not None]
    return torch.cat(found) if found else None
