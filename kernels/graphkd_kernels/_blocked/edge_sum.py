r"""``edge_sum``: differences of two networks' edges, summed.

Squares of inner products go by pairs, or through D x D Gram matrices (``joint_rows``); every other penalty and relation
goes by blocks of rows, for which no D x D form exists.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import Nodes, formula_by_rows, in_groups
from graphkd_kernels._blocked.edge_blocks import compare
from graphkd_kernels._blocked.joint_rows import JointRows, formula_grams
from graphkd_kernels._blocked.rows import map_rows, unmap_rows
from graphkd_kernels.autograd import Found, Maybe, Needs, Rule, apply, register
from graphkd_kernels.plans import INNER, Sizes, square_path
from graphkd_kernels.reference.edge_sum import penalty_sum

__all__ = ["edge_sum"]
Compared = tuple[Tensor, Maybe, Maybe]
Pair = tuple[bool, bool]


def _square(needs: Needs, xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, path: str) -> Found:
    """A single graph by pairs as it is; others as many together as the cache holds."""
    nodes = xs, ys, xt, yt
    if path == "D x D":
        return in_groups(partial(_by_grams, relation), needs, nodes, xs.shape[-1] + xt.shape[-1])
    if xs.ndim == 2:
        return _by_pairs(relation, nodes, needs)
    return in_groups(partial(_by_pairs, relation), needs, nodes, max(x.shape[-2] for x in nodes if x is not None))


def _square_formula(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, path: str) -> Tensor:
    if path == "pairs":
        return reference.edge_sum(xs, ys, xt, yt, relation, "square")
    source = formula_grams(xs, xt, relation)
    target = source if ys is None or yt is None else formula_grams(ys, yt, relation)
    return source.squares(target).to(xs.dtype)


def _by_grams(relation: str, nodes: Nodes, needs: Needs) -> Found:
    """Through the Gram matrices of joined rows: N (Ds + Dt)^2 operations, and 2 N (Ds + Dt) Ds for the gradient."""
    xs, ys, xt, yt = nodes
    source = JointRows(xs, xt, relation)
    grams = source.grams()
    if ys is None or yt is None:
        of_x = source.gradients(grams.factors(2), needs[::2])
        return grams.squares(grams).clamp_min(0), (of_x[0], None, of_x[1], None)
    target = JointRows(ys, yt, relation)
    others = target.grams()
    of_x, of_y = source.gradients(others.factors(1), needs[::2]), target.gradients(grams.factors(1), needs[1::2])
    return grams.squares(others).clamp_min(0), (of_x[0], of_y[0], of_x[1], of_y[1])


def _by_pairs(relation: str, nodes: Nodes, needs: Needs) -> Found:
    """Through the matrix of all pairs, formed once: 4 N^2 D operations for a set with itself."""
    maps = [None if x is None else map_rows(x, relation) for x in nodes]
    xs, ys, xt, yt = (None if each is None else each[0] for each in maps)
    assert xs is not None
    assert xt is not None
    rows: Nodes
    if ys is None or yt is None:
        edges, rows, factors = own_edges(xs, xt), (xs, None, xt, None), (4, 0, -4, 0)
    else:
        edges, rows, factors = cross_edges(xs, ys, xt, yt), (ys, xs, yt, xt), (2, 2, -2, -2)
    found: list[Maybe] = [None] * 4
    for k, (mapped, others) in enumerate(zip(maps, rows, strict=True)):
        if needs[k] and mapped is not None and others is not None:
            gradient = (edges.mT if k % 2 else edges) @ others
            found[k] = unmap_rows(gradient.mul_(factors[k]), *mapped, relation)
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


def square_rows(student: Tensor, teacher: Tensor, needs: Pair) -> Compared:
    """Squared differences and the derivatives of their sum. Shapes: (*b, n, m) twice -> (*b, n, m) each."""
    apart = student - teacher
    ds = 2 * apart if needs[0] else None
    dt = -2 * apart if needs[1] else None
    return apart.square_(), ds, dt


def huber_rows(student: Tensor, teacher: Tensor, needs: Pair) -> Compared:
    """The sum of smooth-L1 differences and its derivatives. Shapes: (*b, n, m) twice -> (), (*b, n, m)."""
    apart = student - teacher
    slope = apart.clamp(-1, 1) if any(needs) else None
    return penalty_sum(apart, "huber"), slope if needs[0] else None, -slope if slope is not None and needs[1] else None


def unit_rows(student: Tensor, teacher: Tensor, needs: Pair) -> Compared:
    """Squared differences of rows of unit length, and the derivatives of their sum. Shapes: of :func:`square_rows`."""
    sides = [map_rows(each, "cosine") for each in (student, teacher)]
    values, *found = square_rows(sides[0][0], sides[1][0], needs)
    ds, dt = (None if g is None else unmap_rows(g, *side, "cosine") for g, side in zip(found, sides, strict=True))
    return values, ds, dt


PENALTIES: dict[str, Callable[[Tensor, Tensor, Pair], Compared]] = {
    "square": square_rows,
    "huber": huber_rows,
    "unit": unit_rows,
}


def _penalty(
    needs: Needs, xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float
) -> Found:
    """Sum of a penalty of the differences, "square", "huber" or "unit" (squares of unit rows), and its gradients."""

    def together(nodes: Nodes, needs: Needs) -> Found:
        return compare(nodes, needs, PENALTIES[penalty], relation, 1.0, gamma, ys is None and penalty != "unit")

    return in_groups(together, needs, (xs, ys, xt, yt), max(xs.shape[-2], 0 if ys is None else ys.shape[-2]))


def _penalty_truth(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float) -> Tensor:
    if penalty == "unit":
        return reference.unit_edge_sum(xs, ys, xt, yt)
    return reference.edge_sum(xs, ys, xt, yt, relation, penalty, gamma)


register("edge_square", Rule(_square, _square_formula))
register("edge_penalty", Rule(_penalty, formula_by_rows(_penalty_truth, 4)))  # a compiler fuses its passes: no operator


def edge_sum(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float = 1.0) -> Tensor:
    """Squares of inner products have a closed form; everything else goes row by row."""
    if penalty != "square" or relation not in INNER:
        return apply("edge_penalty", (relation, penalty, float(gamma)), xs, ys, xt, yt)
    sizes = Sizes.of(xs.shape, None if ys is None else ys.shape, xt.shape)
    return apply("edge_square", (relation, square_path(sizes)), xs, ys, xt, yt)
