r"""``edge_sum``: which path, the operands of each, and the gradients of all four node sets.

*Columns*: squares of inner products through D x D Grams (``grams``), :math:`L = \langle G_x, J G_y J \rangle`. *Tiles*:
everything else, from tiles of the edges, which never exist together (``edge_tiles``). Derivations: kernels/README.md.
"""

from dataclasses import dataclass

from torch import Tensor

from graphkd_kernels import _blocked
from graphkd_kernels._triton.configs import math, math_of_distances, padded
from graphkd_kernels._triton.edge_tiles import OTHERS, Difference, Operands, centred, walk
from graphkd_kernels._triton.grams import combine, gram, product
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import Math
from graphkd_kernels._triton.node_blocks import common, flat
from graphkd_kernels._triton.rows import Rows, normalise, normalise_backward
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, apply
from graphkd_kernels.plans import INNER

__all__ = ["edge_sum"]


def columns_pay(n: int, m: int, d: int) -> bool:
    """Whether D x D Grams cost less than tiles of the N x M edges: N > 2 D where both node sets are of size N."""
    return n * m > d * (n + m)


def _by_columns(xs: Tensor, ys: Maybe, xt: Tensor, relation: str, penalty: str) -> bool:
    m = (xs if ys is None else ys).shape[-2]
    return (
        relation in INNER and penalty == "square" and columns_pay(xs.shape[-2], m, (xs.shape[-1] + xt.shape[-1]) // 2)
    )


def _gradients(
    needs: Needs, xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float
) -> Found:
    """The value; of each set the gradient in its mapped rows, not yet multiplied, then the statistics of these rows."""
    dtype, targets = common(xs, ys, xt, yt), [None if each is None else flat(each) for each in (ys, yt)]
    work = _Products(flat(xs), targets[0], flat(xt), targets[1], relation, penalty, math(dtype))
    if relation not in INNER:
        # Not 16-bit operands: rounding the two sides apart loses what their difference is made of.
        value, grads = work.distances(needs, gamma, math_of_distances(dtype))
        return value, (*grads, None, None)
    value, grads, ends = (work.columns if _by_columns(xs, ys, xt, relation, penalty) else work.tiles)(needs)
    return value, (*grads, ends[0].statistics, None if ys is None else ends[1].statistics)


def _finish(
    needs: Needs, upstream: Tensor, tensors: Kept, kept: Kept, relation: str, penalty: str, gamma: float
) -> Kept:
    """Gradients of the loss."""
    xs, ys, xt, _ = tensors
    assert xs is not None
    assert xt is not None
    columns = _by_columns(xs, ys, xt, relation, penalty)
    found: list[Maybe] = [None] * 4
    for which, (x, g) in enumerate(zip(tensors, kept[:4], strict=True)):
        if x is not None and g is not None:
            factor = 1.0 if columns or ys is not None else 2.0
            if which >= 2 and relation in INNER and not columns:
                factor = -factor
            statistics, side = kept[4 + which % 2], slice(which // 2 * 2, which // 2 * 2 + 2)
            own = None if statistics is None else statistics[side]
            found[which] = normalise_backward(g, x, own, relation, upstream, factor)
    return tuple(found)


@dataclass(frozen=True)
class _Products:
    """Nodes (b, n, d) of both networks; edges that are inner products of mapped rows: E = Xs Ys' - Xt Yt'."""

    xs: Tensor
    ys: Tensor | None
    xt: Tensor
    yt: Tensor | None
    relation: str
    penalty: str
    math: Math

    @property
    def layout(self) -> str:
        """Of joined rows: sums and differences need equal widths."""
        return "uv" if self.xs.shape[2] == self.xt.shape[2] else ""

    def node(self, which: int) -> Tensor:
        """One of xs, ys, xt, yt; a set with itself has the sources at both ends."""
        x = (self.xs, self.ys, self.xt, self.yt)[which]
        return self.node(which - 1) if x is None else x

    def rows(self, y: bool, layout: str, sign: float = 1.0, right: bool = False) -> Rows:
        """Mapped rows of the sources, or of the targets."""
        return normalise(self.node(y), self.node(2 + y), self.relation, self.math, layout, sign, right=right)

    def columns(self, needs: Needs) -> tuple[Tensor, Kept, tuple[Rows, Rows]]:
        """Through Grams of columns of Z = [U V], or [Xs Xt] where the widths differ."""
        d, uv, same = padded(self.xs.shape[2]), bool(self.layout), self.ys is None
        x = self.rows(False, self.layout)
        gx = gram(x.z, self.math)
        y = x if same else self.rows(True, self.layout)
        gy = gx if same else gram(y.z, self.math)
        found: list[Maybe] = [None] * 4
        value = None
        for which, own, grams in ((0, x, (gx, gy)), (1, y, (gy, gx))):
            student, teacher = needs[which], needs[which + 2]
            if value is not None and not (student or teacher):
                continue
            width = (x.z.shape[3] if teacher else d) if student or teacher else 0
            total, m = combine(*grams, d, uv, self.math, x.count, width, 4.0 if same else 2.0)
            value = total if value is None else value
            if m is not None:
                g = product(own.z, m, self.math)
                found[which] = g[..., :d] if student else None
                found[which + 2] = g[..., d:] if teacher else None
        assert value is not None
        return value, tuple(found), (x, y)

    def tiles(self, needs: Needs) -> tuple[Tensor, Kept, tuple[Rows, Rows]]:
        """Through tiles of the edges."""
        d, same, layout = padded(self.xs.shape[2]), self.ys is None, "uvu" if self.layout else ""
        x = self.rows(False, layout, right=needs[0] if same else needs[1])
        y = x if same else self.rows(True, layout, right=needs[0])
        first, last = (slice(0, 2 * d), slice(d, None)) if layout else (slice(None), slice(None))
        x_minus, y_minus = x, y
        if not layout:  # E = [Xs Xt] [Ys -Yt]'
            x_minus = self.rows(False, layout, sign=-1.0)
            y_minus = x_minus if same else self.rows(True, layout, sign=-1.0)
        pairs = ((x, y_minus), (y, x_minus))
        ends = [Operands(a.z[..., first], b.z[..., last], count=a.count) for a, b in pairs]
        work = [Difference(each, None, "product", self.penalty, self.math) for each in ends]
        found: list[Maybe] = [None] * 4
        value = None
        for which in (k for k, need in enumerate(needs) if need):
            other = (x if which % 2 else y).right
            if which >= 2:
                other = normalise(self.node(which ^ 1), None, self.relation, self.math).z
            value, found[which] = walk(work[which % 2], other)
        if value is None:
            value = work[0].value(symmetric=same)[0]
        return value, tuple(found), (x, y)

    def distances(self, needs: Needs, gamma: float, math: Math) -> Found:
        """Through Gram tiles of each side, both centred: edges are functions of distances."""
        same, pairs = self.ys is None, ((self.xs, self.ys), (self.xt, self.yt))
        sides, own = [centred(x, y, gamma, math) for x, y in pairs], 0 if same else OTHERS
        found: list[Maybe] = [None] * 4
        value = None
        for which in (k for k, need in enumerate(needs) if need):
            one, other = sides if which < 2 else sides[::-1]
            if which % 2:
                one, other = one.turned(), other.turned()
            value, found[which] = walk(Difference(one, other, self.relation, self.penalty, math, own), one.b)
        if value is None:
            work = Difference(sides[0], sides[1], self.relation, self.penalty, math, own)
            value = work.value(symmetric=same)[0]
        return value, tuple(found)


kernel_rule("triton/edge_sum", _gradients, _blocked.OPERATIONS["edge_sum"], finish=_finish)


def edge_sum(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float = 1.0) -> Tensor:
    """Sum of penalty(relation of students - relation of teachers): ``reference.edge_sum``."""
    fit(xs, ys, xt, yt)
    return apply("triton/edge_sum", (relation, penalty, gamma), xs, ys, xt, yt)
