"""Penalties of any relation's differences, a block of rows at a time: for what no D x D matrices express.

Huber penalties, distances and Gaussians, and unit rows of unequal widths. Value and gradient are computed together, so
that each block of the matrix is formed once and never kept.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graphkd_kernels import reference
from graphkd_kernels._blocked.groups import Found, Nodes, in_groups
from graphkd_kernels._blocked.rows import MAPS, map_rows, unmap_rows
from graphkd_kernels.autograd import Maybe, Needs, Options, Rule, apply, register, transformed
from graphkd_kernels.reference.edges import penalty_sum

_BLOCK = 2**20  # entries of a block of a matrix: 4 MiB in float32


class RowBlocks(Rule):
    """Options: (relation, penalty, gamma); penalty "square", "huber", or "unit" (squares of unit rows)."""

    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> Found:
        """Graphs together as far as the cache holds their matrices, large ones by blocks of rows."""
        rows = max(each.shape[-2] for each in tensors if each is not None)
        return in_groups(partial(by_rows, options), needs, tensors, rows)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """Block by block as well, each computed again by the backward pass; as a whole inside functorch."""
        xs, ys, xt, yt = tensors
        assert xs is not None
        assert xt is not None
        targets = (xs, xt) if ys is None or yt is None else (ys, yt)
        rows = max(1, _BLOCK // targets[0][..., 0].numel())
        if rows >= xs.shape[-2] or transformed():
            return _dense(options, xs, ys, xt, yt)
        parts = [
            checkpoint(_dense, options, a, targets[0], b, targets[1], use_reentrant=False)
            for a, b in zip(torch.split(xs, rows, -2), torch.split(xt, rows, -2), strict=True)
        ]
        return torch.stack(parts).sum()


register("row_blocks", RowBlocks())


def _dense(options: Options, xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    relation, penalty, gamma = options
    if penalty == "unit":
        value: Tensor = reference.unit_edge_sum(xs, ys, xt, yt)
    else:
        value = reference.edge_sum(xs, ys, xt, yt, relation, penalty, gamma)
    return value


class _Network:
    """One network's nodes, mapped or centred, and their gradients, filled block by block."""

    def __init__(self, x: Tensor, y: Maybe, relation: str, gamma: float, needs: tuple[bool, bool], both: bool) -> None:
        self.relation, self.gamma, self.needs, self.own = relation, gamma, needs, y is None
        self.both = both  # whether the matrix is symmetric: then rows alone give the gradient, twice
        if relation in MAPS:
            self.maps = map_rows(x, relation), map_rows(x if y is None else y, relation)
        else:
            shift = (x if y is None else y).mean(-2, keepdim=True)
            self.maps = (x - shift, None), ((x if y is None else y) - shift, None)
        if y is None:
            self.maps = self.maps[0], self.maps[0]
        self.x, self.y = self.maps[0][0], self.maps[1][0]
        if relation not in MAPS:
            self.sizes = tuple(torch.linalg.vecdot(each, each) for each in (self.x, self.y))
        self.of_x = torch.empty_like(self.x) if needs[0] else None
        wanted = needs[0] and not both if self.own else needs[1]
        self.of_y = torch.zeros_like(self.y) if wanted else None

    def edges(self, part: slice) -> Tensor:
        """A block of rows of the relation's matrix."""
        products = self.x[:, part] @ self.y.mT
        if self.relation in MAPS:
            return products
        sizes = self.sizes[0][:, part].unsqueeze(-1) + self.sizes[1].unsqueeze(-2)
        squares = torch.add(sizes, products, alpha=-2)
        squares.masked_fill_(squares <= 16 * torch.finfo(squares.dtype).eps * sizes, 0.0)
        if self.relation == "euclidean":
            return squares.sqrt_()
        return squares if self.relation == "squared_euclidean" else squares.mul_(-self.gamma).exp_()

    def pull(self, part: slice, edges: Tensor, slope: Tensor) -> None:
        """Add what a block's slope, overwritten, gives to the gradients."""
        if not any(self.needs):
            return
        x, factor = self.x[:, part], 1
        if self.relation not in MAPS:  # of products, from squared distances: each entry moves x_i - y_j
            slope, factor = self._of_squares(edges, slope), -2
        if self.of_x is not None:
            self.of_x[:, part] = (slope @ self.y).mul_(factor * (2 if self.both else 1))
            if factor == -2:
                self.of_x[:, part] += slope.sum(-1, keepdim=True) * x * (4 if self.both else 2)
        if self.of_y is not None:
            self.of_y.baddbmm_(slope.mT, x, alpha=factor)
            if factor == -2:
                self.of_y += 2 * slope.sum(-2).unsqueeze(-1) * self.y

    def _of_squares(self, edges: Tensor, slope: Tensor) -> Tensor:
        if self.relation == "euclidean":
            zero = edges == 0
            return slope.div_(edges.masked_fill(zero, 1.0)).mul_(0.5).masked_fill_(zero, 0.0)
        if self.relation == "squared_euclidean":
            return slope.masked_fill_(edges == 0, 0.0)
        return slope.mul_(edges).mul_(-self.gamma).masked_fill_(edges == 1, 0.0)

    def gradients(self) -> tuple[Maybe, Maybe]:
        """In the rows before their map."""
        of_x, of_y = self.of_x, self.of_y
        if self.own and of_x is not None and of_y is not None:
            of_x, of_y = of_x.add_(of_y), None
        return tuple(  # type: ignore[return-value]
            None if g is None else unmap_rows(g, *each, self.relation if self.relation in MAPS else "gram")
            for g, each in zip((of_x, of_y), self.maps, strict=True)
        )


def by_rows(options: Options, nodes: Nodes, needs: Needs) -> Found:
    """Value and gradients, a block of rows at a time."""
    xs, ys, xt, yt = nodes
    relation, penalty, gamma = options
    assert xs is not None
    assert xt is not None
    ys, yt = (None, None) if ys is None or yt is None else (ys, yt)
    symmetric = ys is None and penalty != "unit"
    student = _Network(xs, ys, relation, gamma, needs[:2], symmetric)  # type: ignore[arg-type]
    teacher = _Network(xt, yt, relation, gamma, needs[2:], symmetric)  # type: ignore[arg-type]
    rows = max(1, _BLOCK // student.y[..., 0].numel())
    value = torch.zeros((), dtype=torch.float64, device=xs.device)
    for start in range(0, xs.shape[1], rows):
        part = slice(start, start + rows)
        edges = student.edges(part), teacher.edges(part)
        some, slopes = _PENALTIES[penalty](*edges, any(needs))
        value = value + some
        for network, matrix, slope in zip((student, teacher), edges, slopes, strict=False):
            network.pull(part, matrix, slope)
    (of_xs, of_ys), (of_xt, of_yt) = student.gradients(), teacher.gradients()
    return value, (of_xs, of_ys, of_xt, of_yt)


Slopes = tuple[Tensor, ...]


def _square(student: Tensor, teacher: Tensor, wanted: bool) -> tuple[Tensor, Slopes]:
    apart = student - teacher
    value = apart.square().sum(dtype=torch.float64)
    return value, (2 * apart, -2 * apart) if wanted else ()


def _huber(student: Tensor, teacher: Tensor, wanted: bool) -> tuple[Tensor, Slopes]:
    apart = student - teacher
    value = penalty_sum(apart, "huber").double()
    return value, (apart.clamp(-1, 1), -apart.clamp(-1, 1)) if wanted else ()


def _unit(student: Tensor, teacher: Tensor, wanted: bool) -> tuple[Tensor, Slopes]:
    (s, inverse_s), (t, inverse_t) = (map_rows(each, "cosine") for each in (student, teacher))
    apart = s - t
    value = apart.square().sum(dtype=torch.float64)
    if not wanted:
        return value, ()
    return value, (unmap_rows(2 * apart, s, inverse_s, "cosine"), unmap_rows(-2 * apart, t, inverse_t, "cosine"))


_PENALTIES: dict[str, Callable[[Tensor, Tensor, bool], tuple[Tensor, Slopes]]] = {
    "square": _square,
    "huber": _huber,
    "unit": _unit,
}


def edge_sum_by_rows(
    xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float = 1.0
) -> Tensor:
    """The sum for any relation and penalty."""
    return apply("row_blocks", (relation, penalty, gamma), xs, ys, xt, yt)
