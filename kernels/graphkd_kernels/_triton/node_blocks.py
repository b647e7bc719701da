"""Nodes made ready for kernels of pairs: normalised or centred rows, and blocks of their products."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from graphkd_kernels._triton.configs import padded
from graphkd_kernels._triton.launch import empty
from graphkd_kernels._triton.squares import to_squares
from graphkd_kernels._triton.terms import Terms, split, terms_of
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, as_graphs
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


def one_precision(xs: Tensor, ys: Maybe, xt: Maybe, yt: Maybe) -> tuple[tuple[Maybe, Maybe], tuple[Maybe, Maybe]]:
    """Both networks' nodes: all float64 where one is, and of one type within a network."""
    given: list[Maybe] = [xs, ys, xt, yt]
    if common(*given) == torch.float64:
        given = one_type(*given)
    return _alike(*given[:2]), _alike(*given[2:])


def _alike(x: Maybe, y: Maybe) -> tuple[Maybe, Maybe]:
    if x is None or y is None or x.dtype == y.dtype:
        return x, y
    dtype = common(x, y)
    return x.to(dtype), y.to(dtype)


def terms_for(given: Tensor, ready: Tensor, relation: str) -> int:
    """Terms of prepared rows: of mapped 16-bit rows two are enough."""
    mapped = relation in ("cosine", "pearson") and given.dtype in (torch.bfloat16, torch.float16)
    return 2 if mapped else terms_of(ready.dtype)


def prepared(x: Tensor, y: Maybe, relation: str) -> tuple[Tensor, Maybe]:
    """Rows whose products give the relation: normalised, or centred around y's mean for distances.

    bfloat16 rows that need no map stay as they are: their products are exact, and sums in float32 bear their offset.
    """
    row_map = ROW_MAPS.get(relation)
    if row_map is not None and relation != "gram":
        return row_map(_wide(x)), None if y is None else row_map(_wide(y))
    if x.dtype == torch.bfloat16 and (y is None or y.dtype == torch.bfloat16):
        return x, y
    x, y = _wide(x), None if y is None else _wide(y)
    if row_map is not None:
        return x, y
    shift = (x if y is None else y).mean(-2, keepdim=True).detach()
    return x - shift, None if y is None else y - shift


def _wide(x: Tensor) -> Tensor:
    return x.to(wide(x.dtype))


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


class NodeProducts:
    """One network's nodes as graphs (b, n, d), (b, m, d), blocks of their products, and the sums of their gradients.

    Products are of terms (``terms``); float64 has the vendor's.
    """

    def __init__(self, x: Tensor, y: Maybe, needs: Needs, terms: int) -> None:
        self.one_set, self.needed = y is None, any(needs)
        self.x = as_graphs(x).contiguous()
        self.y = self.x if y is None else as_graphs(y).contiguous()
        self.of_x = split(self.x, terms) if terms else None
        self.of_y = split(self.y, terms) if terms and y is not None else self.of_x
        self.terms = max(2, terms) if terms else 0  # of weights
        dtype = wide(x.dtype)
        self.dx = torch.zeros_like(self.x, dtype=dtype) if needs[0] else None
        self.dy = self.dx if y is None else torch.zeros_like(self.y, dtype=dtype) if needs[1] else None

    def products(self, graph: slice, row: slice) -> Tensor:
        """A block of inner products, columns of stride 1."""
        if self.of_x is None or self.of_y is None:
            return self.x[graph, row] @ self.y[graph].mT
        return self.of_x.part(graph, row).times_rows(self.of_y.part(graph))

    def squares(self, graph: slice, row: slice) -> Tensor:
        """A block of squared distances."""
        found = self.products(graph, row)
        own = row.start if self.one_set else None
        to_squares(found, self.x[graph, row], self.y[graph], self._sizes(found, graph, row), own)
        return found

    def _sizes(self, products: Tensor, graph: slice, row: slice) -> tuple[Tensor, Tensor]:
        """Squared lengths of a block's rows and columns, from the products themselves where the block has them."""
        if self.one_set and products.shape[1] == products.shape[2]:
            own = products.diagonal(dim1=1, dim2=2).contiguous()
            return own, own
        x, y = (each.to(products.dtype) for each in (self.x[graph, row], self.y[graph]))
        return x.square().sum(-1), y.square().sum(-1)

    def weights(self, products: Tensor) -> Tensor:
        """Where the weights of a block go, (terms, b, n, width)."""
        b, n, m = products.shape
        if not self.terms:
            return empty((1, b, n, m), products.dtype, products.device)
        return empty((self.terms, b, n, padded(m)), torch.bfloat16, products.device)

    def times(self, weights: Tensor, graph: slice) -> Tensor:
        """Weights of some rows times the targets."""
        if self.of_y is None:
            return weights[0] @ self.y[graph]
        return Terms(weights, self.y.shape[1]).times(self.of_y.part(graph))

    def turned_times(self, weights: Tensor, graph: slice, row: slice) -> Tensor:
        """Weights of some rows, turned, times these."""
        if self.of_x is None:
            return weights[0].mT @ self.x[graph, row]
        return Terms(weights, self.y.shape[1]).turned_times(self.of_x.part(graph, row))

    def add(self, weights: Tensor, graph: slice, row: slice, distances: bool) -> None:
        """Add the gradients of a block, from weights of its products, or in units of x_i - y_j."""
        sign, x, y = -1.0 if distances else 1.0, self.x[graph, row], self.y[graph]
        if self.dx is not None:
            dx = self.dx[graph, row].add_(self.times(weights, graph), alpha=sign)
            if distances:
                dx.addcmul_(weights.sum((0, -1), dtype=dx.dtype).unsqueeze(-1), x)
        if self.dy is not None:
            dy = self.dy[graph].add_(self.turned_times(weights, graph, row), alpha=sign)
            if distances:
                dy.addcmul_(weights[..., : y.shape[1]].sum((0, -2), dtype=dy.dtype).unsqueeze(-1), y)


def sweep_products(
    tensors: Sequence[Maybe],
    needs: Needs,
    terms: Sequence[int],
    distances: bool,
    loss: Callable[[Sequence[NodeProducts], Sequence[Tensor], Sequence[Maybe], slice, slice], Tensor],
) -> Found:
    """Sum of a loss of rows of edges, and its gradients: products, values and weights, products again.

    Args:
        tensors: nodes of the student and, unless ``None``, of the teacher; others are not looked at.
        terms: of the student's and the teacher's products.
        distances: whether edges are squared distances, and weights in units of x_i - y_j.
        loss: (sides, their edges, weights to write, graphs, rows) -> values; weights of sides with a gradient.
    """
    both = [(x, tensors[i + 1], needs[i : i + 2], terms[i // 2]) for i in (0, 2) if (x := tensors[i]) is not None]
    sides, parts = [NodeProducts(*each) for each in both], []
    for graph, row in blocks(len(sides[0].x), sides[0].x.shape[1], sides[0].y.shape[1]):
        products = [(side.squares if distances else side.products)(graph, row) for side in sides]
        weights = [side.weights(p) if side.needed else None for side, p in zip(sides, products, strict=True)]
        parts.append(loss(sides, products, weights, graph, row).sum())
        for side, weight in zip(sides, weights, strict=True):
            if weight is not None:
                side.add(weight, graph, row, distances)
    value = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
    found = [grad for side in sides for grad in (side.dx, side.dy)]
    found += [None] * (len(tensors) - len(found))
    gradients: Kept = tuple(
        grad.view(like.shape) if need and grad is not None and like is not None else None
        for need, like, grad in zip(needs, tensors, found, strict=True)
    )
    return value, gradients
