r"""Squared differences of two networks' inner-product edges, summed: by pairs, or through D x D Gram matrices."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.groups import Found, Nodes, in_groups
from graphkd_kernels._blocked.joined import Side
from graphkd_kernels._blocked.rows import map_rows, unmap_rows
from graphkd_kernels.autograd import Maybe, Needs, Options, Rule, apply, register
from graphkd_kernels.grams import Grams, join_mapped, split
from graphkd_kernels.plans.edges import Sizes, square_path


class EdgeSquare(Rule):
    """Sum over all pairs of (relation of students - relation of teachers)^2. Options: (relation, path)."""

    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> Found:
        """A single graph by pairs as it is; others as many together as the cache holds."""
        relation, path = options
        xs, _, xt, _ = tensors
        assert xs is not None
        assert xt is not None
        if path == "pairs" and xs.ndim == 2:
            return by_pairs(relation, tensors, needs)
        if path == "pairs":
            rows = max(each.shape[-2] for each in tensors if each is not None)
            return in_groups(partial(by_pairs, relation), needs, tensors, rows)
        return in_groups(partial(by_grams, relation), needs, tensors, xs.shape[-1] + xt.shape[-1])

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The same path, differentiable."""
        relation, path = options
        xs, ys, xt, yt = tensors
        assert xs is not None
        assert xt is not None
        if path == "pairs":
            value: Tensor = reference.edge_sum(xs, ys, xt, yt, relation, "square")
            return value
        source = formula_grams(xs, xt, relation)
        target = source if ys is None or yt is None else formula_grams(ys, yt, relation)
        return source.squares(target).to(xs.dtype)


register("edge_square", EdgeSquare())


def edge_square(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str) -> Tensor:
    """The sum of squares, by the path that is less work."""
    sizes = Sizes.of(xs.shape, None if ys is None else ys.shape, xt.shape)
    return apply("edge_square", (relation, square_path(sizes)), xs, ys, xt, yt)


def formula_grams(student: Tensor, teacher: Tensor, relation: str) -> Grams:
    """P, Q and W of all rows, in float64, differentiable."""
    row_map: Callable[[Tensor], Tensor] = reference.ROW_MAPS[relation]
    both = join_mapped(row_map(student), row_map(teacher)).double()
    return split(both.mT @ both, student.shape[-1], teacher.shape[-1])


def by_grams(relation: str, nodes: Nodes, needs: Needs) -> Found:
    """Through the Gram matrices of joined rows: N (Ds + Dt)^2 operations, and 2 N (Ds + Dt) Ds for the gradient."""
    xs, ys, xt, yt = nodes
    assert xs is not None
    assert xt is not None
    source = Side(xs, xt, relation)
    grams = source.grams()
    if ys is None or yt is None:
        of_x = source.gradients(grams.factors(2), (needs[0], needs[2]))
        return grams.squares(grams).clamp_min(0), (of_x[0], None, of_x[1], None)
    target = Side(ys, yt, relation)
    others = target.grams()
    of_x = source.gradients(others.factors(1), (needs[0], needs[2]))
    of_y = target.gradients(grams.factors(1), (needs[1], needs[3]))
    return grams.squares(others).clamp_min(0), (of_x[0], of_y[0], of_x[1], of_y[1])


def by_pairs(relation: str, nodes: Nodes, needs: Needs) -> Found:
    """Through the matrix of all pairs, formed once: 4 N^2 D operations for a set with itself."""
    maps = [None if x is None else map_rows(x, relation) for x in nodes]
    xs, ys, xt, yt = (None if each is None else each[0] for each in maps)
    assert xs is not None
    assert xt is not None
    rows: Nodes
    if ys is None or yt is None:
        edges, rows, factors = own_edges(xs, xt), (xs, None, xt, None), (4, 0, -4, 0)
        matrices = edges, edges, edges, edges
    else:
        edges, rows, factors = cross_edges(xs, ys, xt, yt), (ys, xs, yt, xt), (2, 2, -2, -2)
        matrices = edges, edges.mT, edges, edges.mT
    found: list[Maybe] = [None] * 4
    for k, (mapped, others) in enumerate(zip(maps, rows, strict=True)):
        if needs[k] and mapped is not None and others is not None:
            found[k] = unmap_rows((matrices[k] @ others).mul_(factors[k]), *mapped, relation)
    return edges.square().sum(), tuple(found)


def own_edges(s: Tensor, t: Tensor) -> Tensor:
    """SS' - TT', from the difference where the widths agree."""
    if s.shape[-1] != t.shape[-1]:
        return (s @ s.mT).sub_(t @ t.mT)
    product = (s + t) @ (s - t).mT
    return (product + product.mT).mul_(0.5)


def cross_edges(xs: Tensor, ys: Tensor, xt: Tensor, yt: Tensor) -> Tensor:
    """Sources by targets: Sx Sy' - Tx Ty', from the differences where the widths agree."""
    if xs.shape[-1] != xt.shape[-1]:
        return (xs @ ys.mT).sub_(xt @ yt.mT)
    return ((xs + xt) @ (ys - yt).mT).add_((xs - xt) @ (ys + yt).mT).mul_(0.5)
