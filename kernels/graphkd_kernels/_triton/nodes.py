"""Nodes made ready for kernels of pairs: one dtype, normalised or centred rows, and blocks of their products."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from graphkd_kernels.autograd import Maybe, Needs
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


def as_graphs(x: Tensor) -> Tensor:
    """(*b, n, d) to contiguous (b, n, d)."""
    return x.reshape(-1, *x.shape[-2:]).contiguous()


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
    """Add a block's gradients from weights (b, n, m): of its products, or in units of x_i - y_j."""
    sign = -1.0 if distances else 1.0
    if dx is not None:
        dx.baddbmm_(weights, y, alpha=sign)
        if distances:
            dx.addcmul_(weights.sum(-1, keepdim=True), x)
    if dy is not None:
        dy.baddbmm_(weights.mT, x, alpha=sign)
        if distances:
            dy.addcmul_(weights.sum(-2).unsqueeze(-1), y)


def tiny(dtype: torch.dtype) -> float:
    """Squared distances within this part of both sizes are rounding."""
    return 16 * torch.finfo(dtype).eps


def total(parts: Sequence[Tensor]) -> Tensor:
    """Sum of the blocks' sums, in their order."""
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).sum()


class Side:
    """One network's nodes as graphs (b, n, d), (b, m, d), and the sums of their gradients."""

    def __init__(self, x: Maybe, y: Maybe, need_x: bool, need_y: bool) -> None:
        assert x is not None
        self.one_set = y is None
        self.x = as_graphs(x)
        self.y = self.x if y is None else as_graphs(y)
        self.dx = torch.zeros_like(self.x) if need_x else None
        self.dy = self.dx if y is None else torch.zeros_like(self.y) if need_y else None
        self.needed = need_x or need_y

    def products(self, graph: slice, row: slice) -> Tensor:
        """A block of inner products."""
        return self.x[graph, row] @ self.y[graph].mT

    def sizes(self, products: Tensor, graph: slice, row: slice) -> tuple[Tensor, Tensor]:
        """Squared lengths of a block's rows and columns, from the products themselves where the block has them."""
        if self.one_set and products.shape[1] == products.shape[2]:
            own = products.diagonal(dim1=1, dim2=2).contiguous()
            return own, own
        return self.x[graph, row].square().sum(-1), self.y[graph].square().sum(-1)

    def add(self, weights: Tensor, graph: slice, row: slice, distances: bool) -> None:
        """Add the gradients of a block."""
        dx = None if self.dx is None else self.dx[graph, row]
        dy = None if self.dy is None else self.dy[graph]
        add_gradients(weights, self.x[graph, row], self.y[graph], dx, dy, distances)


def gradients_of(sides: Sequence[Side], needs: Needs, tensors: Sequence[Maybe]) -> tuple[Maybe, ...]:
    """The sums of the sides in the order and the shapes of the rule's tensors."""
    found = [grad for side in sides for grad in (side.dx, side.dy)]
    pairs = zip(needs, tensors, found + [None] * (len(tensors) - len(found)), strict=True)
    return tuple(
        grad.view(like.shape) if need and grad is not None and like is not None else None for need, like, grad in pairs
    )
