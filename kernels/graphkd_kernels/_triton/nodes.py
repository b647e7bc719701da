"""Nodes made ready for kernels of pairs: one dtype, normalised or centred rows, contiguous, and blocks of their products."""

from collections.abc import Iterator

import torch
from torch import Tensor

from graphkd_kernels.reference.pairs import ROW_MAPS

ENTRIES = 2**23
"""Of one block of products: 32 MB in float32, so that what is made of it is read back from the L2 cache."""


def one_type(*tensors: Tensor | None) -> list[Tensor | None]:
    """The widest dtype for all; 16 bits become float32."""
    dtype = torch.float32
    for each in tensors:
        if each is not None:
            dtype = torch.promote_types(dtype, each.dtype)
    return [None if each is None else each.to(dtype) for each in tensors]


def prepared(x: Tensor, y: Tensor | None, relation: str) -> tuple[Tensor, Tensor | None]:
    """Rows whose products give the relation: normalised, or centred around y's mean for distances."""
    row_map = ROW_MAPS.get(relation)
    if row_map is not None:
        return row_map(x), None if y is None else row_map(y)
    shift = (x if y is None else y).mean(-2, keepdim=True).detach()
    return x - shift, None if y is None else y - shift


def inner(relation: str) -> str:
    """What prepared rows are compared by."""
    return "product" if relation in ROW_MAPS else relation


def as_graphs(x: Tensor | None) -> Tensor | None:
    """(*b, n, d) to contiguous (b, n, d)."""
    return None if x is None else x.reshape(-1, *x.shape[-2:]).contiguous()


def blocks(graphs: int, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """(graphs, rows) of blocks with at most ENTRIES products: whole graphs where they fit."""
    if rows * columns <= ENTRIES:
        step = max(1, ENTRIES // max(1, rows * columns))
        for first in range(0, graphs, step):
            yield slice(first, min(first + step, graphs)), slice(0, rows)
        return
    step = max(1, ENTRIES // columns)
    for graph in range(graphs):
        for first in range(0, rows, step):
            yield slice(graph, graph + 1), slice(first, min(first + step, rows))


def add_gradients(weights: Tensor, x: Tensor, y: Tensor, dx: Tensor | None, dy: Tensor | None, distances: bool) -> None:
    """Add a block's gradients: of its products, or in units of x_i - y_j. Weights (b, n, m), x (b, n, d), y (b, m, d)."""
    sign = -1.0 if distances else 1.0
    if dx is not None:
        dx.baddbmm_(weights, y, alpha=sign)
        if distances:
            dx.addcmul_(weights.sum(-1, keepdim=True), x)
    if dy is not None:
        dy.baddbmm_(weights.mT, x, alpha=sign)
        if distances:
            dy.addcmul_(weights.sum(-2).unsqueeze(-1), y)
