"""Nodes made ready for kernels of pairs: one dtype, normalised or centred rows, and blocks of their products."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from graphkd_kernels.autograd import Found, Kept, Maybe, Needs
from graphkd_kernels.precision import wide
from graphkd_kernels.reference.similarity import ROW_MAPS

ENTRIES = 2**23
"""Of one block of products: 32 MB in float32, so that what is made of it is read back from the L2 cache."""


def flat(x: Tensor) -> Tensor:
    """Shapes: (*b, n, d) -> (b, n, d)."""
    return x.unsqueeze(0) if x.ndim == 2 else x.flatten(0, -3)


def common(*tensors: Maybe) -> torch.dtype:
    """The widest type among the tensors; float32 for a mixture of 16-bit types."""
    there = [each.dtype for each in tensors if each is not None]
    found = there[0]
    for each in there[1:]:
        found = torch.promote_types(found, each)
    return found


def one_type(*tensors: Maybe) -> list[Maybe]:
    """The widest dtype for all; 16 bits become float32."""
    dtype = wide(common(*tensors))
    return [None if each is None else each.to(dtype) for each in tensors]


def prepared(x: Tensor, y: Maybe, relation: str) -> tuple[Tensor, Maybe]:
    """Rows whose products give the relation: normalised, or centred around y's mean for distances."""
    row_map = ROW_MAPS.get(relation)
    if row_map is not None:
        return row_map(x), None if y is None else row_map(y)
    shift = (x if y is None else y).mean(-2, keepdim=True).detach()
    return x - shift, None if y is None else y - shift


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


class NodeProducts:
    """One network's nodes as graphs (b, n, d), (b, m, d), blocks of their products, and the sums of their gradients."""

    def __init__(self, x: Tensor, y: Maybe, needs: Needs) -> None:
        self.one_set, self.needed = y is None, any(needs)
        self.x = as_graphs(x)
        self.y = self.x if y is None else as_graphs(y)
        self.dx = torch.zeros_like(self.x) if needs[0] else None
        self.dy = self.dx if y is None else torch.zeros_like(self.y) if needs[1] else None

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


def sweep_products(
    tensors: Sequence[Maybe],
    needs: Needs,
    distances: bool,
    loss: Callable[[Sequence[NodeProducts], Sequence[Tensor], slice, slice], Tensor],
) -> Found:
    """Sum of a loss of rows of products, and its gradients: products, values and weights in place, products again.

    Args:
        tensors: nodes of the student and, unless ``None``, of the teacher; others are not looked at.
        distances: whether weights are in units of x_i - y_j.
        loss: (sides, their products, graphs, rows) -> values; products of sides with a gradient are overwritten by its
            weights.
    """
    both = [(x, tensors[i + 1], needs[i : i + 2]) for i in (0, 2) if (x := tensors[i]) is not None]
    sides, parts = [NodeProducts(*each) for each in both], []
    for graph, row in blocks(len(sides[0].x), sides[0].x.shape[1], sides[0].y.shape[1]):
        weights = [side.products(graph, row) for side in sides]
        parts.append(loss(sides, weights, graph, row).sum())
        for side, weight in zip(sides, weights, strict=True):
            side.add(weight, graph, row, distances)
    value = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
    found = [grad for side in sides for grad in (side.dx, side.dy)]
    found += [None] * (len(tensors) - len(found))
    gradients: Kept = tuple(
        grad.view(like.shape) if need and grad is not None and like is not None else None
        for need, like, grad in zip(needs, tensors, found, strict=True)
    )
    return value, gradients
