"""Edge sums on kernels: which path, the operands of each, and the gradients of all four node sets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphkd_kernels import _blocked, autograd
from graphkd_kernels._triton.cases import WIDE, Case
from graphkd_kernels._triton.configs import Math, math, pick
from graphkd_kernels._triton.edges import Side, edge_gradient, edge_value, sizes
from graphkd_kernels._triton.grams import combine, gram, product
from graphkd_kernels._triton.launch import arch
from graphkd_kernels._triton.library import KernelRule, fit, register, wide
from graphkd_kernels._triton.rows import Rows, normalise, normalise_backward, padded
from graphkd_kernels.autograd import Maybe, Needs, Options

KINDS = {"gram": "raw", "cosine": "unit", "pearson": "center"}
"""Relations that are inner products of mapped rows, and the map."""

Found = tuple[Tensor, tuple[Maybe, ...]]


def columns_pay(n: int, m: int, d: int) -> bool:
    """Whether D x D Grams cost less than tiles of the N x M edges: N > 2 D where both node sets are of size N."""
    return n * m > d * (n + m)


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


class EdgeSum(KernelRule):
    """options: relation, penalty, gamma; tensors: xs, ys, xt, yt."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> Found:
        relation, penalty, gamma = options
        xs, ys, xt, yt = (None if each is None else flat(each) for each in tensors)
        assert xs is not None
        assert xt is not None
        dtype = common(xs, ys, xt, yt)
        if relation not in KINDS:
            # Not 16-bit operands: rounding the two sides apart loses what their difference is made of.
            nodes = Distances(xs, ys, xt, yt, relation, penalty, gamma, math(wide(dtype)))
            value, grads = nodes.compute(needs)
        else:
            m = (xs if ys is None else ys).shape[1]
            columns = penalty == "square" and columns_pay(xs.shape[1], m, (xs.shape[2] + xt.shape[2]) // 2)
            work = Columns if columns else Tiles
            value, grads = work(xs, ys, xt, yt, KINDS[relation], penalty, math(dtype)).compute(needs)
        shaped = (None if g is None or x is None else g.view(x.shape) for g, x in zip(grads, tensors, strict=True))
        return value.to(wide(dtype)), tuple(shaped)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        value: Tensor = _blocked.OPERATIONS["edge_sum"](*tensors, *options)
        return value


@dataclass(frozen=True)
class Products:
    """Edges that are inner products of mapped rows: E = Xs Ys' - Xt Yt'."""

    xs: Tensor
    ys: Tensor | None
    xt: Tensor
    yt: Tensor | None
    kind: str
    penalty: str
    math: Math

    def rows(self, y: bool, layout: str, right: bool = False, sign: float = 1.0) -> Rows:
        """Mapped rows of the sources, or of the targets."""
        s, t = (self.ys, self.yt) if y else (self.xs, self.xt)
        assert s is not None
        return normalise(s, t, self.kind, self.math, layout, right, sign)

    def back(self, g: Tensor, y: bool, teacher: bool, rows: Rows) -> Tensor:
        """Gradient of the nodes from that of their mapped rows."""
        x = (self.yt if teacher else self.ys) if y else (self.xt if teacher else self.xs)
        assert x is not None
        mean, scale = (rows.mean_t, rows.scale_t) if teacher else (rows.mean, rows.scale)
        return normalise_backward(g, x, mean, scale, self.kind)


class Columns(Products):
    """Through Grams of columns of Z = [U V], or [Xs Xt] where the widths differ."""

    def compute(self, needs: Needs) -> Found:
        d, uv = padded(self.xs.shape[2]), self.xs.shape[2] == self.xt.shape[2]
        layout, same = "uv" if uv else "", self.ys is None
        x = self.rows(False, layout)
        gx = gram(x.z, self.math)
        y = x if same else self.rows(True, layout)
        gy = gx if same else gram(y.z, self.math)
        found: list[Maybe] = [None] * 4
        value = None
        for which, own, grams in ((0, x, (gx, gy)), (1, y, (gy, gx))):
            student, teacher = needs[which], needs[which + 2]
            if value is not None and not (student or teacher):
                continue
            width = (x.z.shape[2] if teacher else d) if student or teacher else 0
            total, m = combine(*grams, d, uv, self.math, width, 4.0 if same else 2.0)
            value = total.clamp_min(0) if value is None else value
            if m is not None:
                g = product(own.z, m, self.math)
                found[which] = self.back(g[..., :d], which == 1, False, own) if student else None
                found[which + 2] = self.back(g[..., d:], which == 1, True, own) if teacher else None
        assert value is not None
        return value, tuple(found)


class Tiles(Products):
    """Through tiles of the edges, which never exist together."""

    def compute(self, needs: Needs) -> Found:
        d, uv = padded(self.xs.shape[2]), self.xs.shape[2] == self.xt.shape[2]
        same, layout = self.ys is None, "uvu" if uv else ""
        x = self.rows(False, layout)
        y = x if same else self.rows(True, layout)
        x_minus, y_minus = x, y
        if not uv:  # E = [Xs Xt] [Ys -Yt]'
            x_minus = self.rows(False, layout, sign=-1.0)
            y_minus = x_minus if same else self.rows(True, layout, sign=-1.0)
        first, last = (slice(0, 2 * d), slice(d, None)) if uv else (slice(None), slice(None))
        sides = Side(x.z[..., first], y_minus.z[..., last]), Side(y.z[..., first], x_minus.z[..., last])
        found: list[Maybe] = [None] * 4
        value = None
        for which, need in enumerate(needs):
            if need:
                is_y, teacher = which % 2 == 1, which >= 2
                end = (self.xt if teacher else self.xs) if is_y or same else (self.yt if teacher else self.ys)
                assert end is not None
                right = normalise(end, None, self.kind, self.math).z
                factor = (2.0 if same else 1.0) * (-1.0 if teacher else 1.0)
                value, g = walk(sides[is_y], None, right, None, "product", self.penalty, self.math, factor=factor)
                found[which] = self.back(g, is_y, teacher, y if is_y else x)
        if value is None:
            value, _ = edge_value(sides[0], None, "product", self.penalty, self.math, symmetric=same)
        return value, tuple(found)


@dataclass(frozen=True)
class Distances:
    """Edges that are functions of distances, from Gram tiles of each side, both centred."""

    xs: Tensor
    ys: Tensor | None
    xt: Tensor
    yt: Tensor | None
    relation: str
    penalty: str
    gamma: float
    math: Math

    def side(self, x: Tensor, y: Tensor | None) -> Side:
        """Operands of one network. Distances do not change when both sets are shifted."""
        shift = (x if y is None else y).mean(dim=1, dtype=self.math.sums)
        a = normalise(x, None, "shift", self.math, shift=shift).z
        b = a if y is None else normalise(y, None, "shift", self.math, shift=shift).z
        size = sizes(a, self.math)
        return Side(a, b, size, size if y is None else sizes(b, self.math), self.gamma)

    def compute(self, needs: Needs) -> Found:
        same = self.ys is None
        student, teacher = self.side(self.xs, self.ys), self.side(self.xt, self.yt)
        value, found = None, list[Maybe]([None] * 4)
        for which, need in enumerate(needs):
            if need:
                one, other = (student, teacher) if which < 2 else (teacher, student)
                if which % 2:
                    one, other = turned(one), turned(other)
                value, g = walk(
                    one, other, one.b, one.a, self.relation, self.penalty, self.math, factor=2.0 if same else 1.0
                )
                x = (self.xs, self.ys, self.xt, self.yt)[which]
                assert x is not None
                found[which] = normalise_backward(g, x, None, None, "shift")
        if value is None:
            value, _ = edge_value(student, teacher, self.relation, self.penalty, self.math, symmetric=same)
        return value, tuple(found)


def turned(side: Side) -> Side:
    """The same edges seen from the other end."""
    return Side(side.b, side.a, side.size_b, side.size_a, side.gamma)


def walk(
    first: Side, second: Side | None, right: Tensor, left: Tensor | None, relation: str, penalty: str, math: Math,
    offset: int | None = None, factor: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Value and gradient from tiles.

    Wide rows, for which making each tile again for every chunk of columns would cost more than writing it, go by panels
    of rows: weights (rows, m), at most twice as large as the operands, then one product.
    """
    d = right.shape[2]
    if d <= 2 * pick("edges_bwd", math, arch(right.device)).chunk:
        return edge_gradient(first, second, right, left, relation, penalty, math, offset, factor)
    (_, n, _), m = first.a.shape, right.shape[1]
    rows = max(256, min(n, 2 * d * max(n, m) // m))
    values, grads = [], []
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        sides = first.part(part), None if second is None else second.part(part)
        moved = None if offset is None else offset + start
        value, weights = edge_value(*sides, relation, penalty, math, offset=moved, panel=math.storage)
        assert weights is not None
        g = product(weights[..., :m], right, math)
        grads.append(g if left is None else weights.sum(-1, keepdim=True, dtype=g.dtype) * left[:, part] - g)
        values.append(value)
    whole = grads[0] if len(grads) == 1 else torch.cat(grads, 1)
    return torch.stack(values).sum(), whole.mul_(factor)


def edge_sum(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float = 1.0) -> Tensor:
    """Sum over all entries of penalty(relation of students - relation of teachers); see reference.edge_sum."""
    fit(xs, ys, xt, yt)
    return autograd.apply("triton_edge_sum", (relation, penalty, gamma), xs, ys, xt, yt)


register("triton_edge_sum", EdgeSum())
OPERATIONS = {"edge_sum": edge_sum}

_S, _ALL = (True, False, False, False), (True,) * 4
CASES = [
    Case("triton_edge_sum", (relation, penalty, 1.0), shapes, needs)
    for relation, penalty, shapes, needs in (
        ("pearson", "square", ((256, 512), None, (256, 512), None), _S),
        ("pearson", "square", ((256, 256), None, (256, 256), None), _S),
        ("pearson", "square", ((256, 2048), None, (256, 2048), None), _S),
        ("pearson", "square", ((256, 512), None, (256, 512), None), (False,) * 4),
        ("cosine", "huber", ((8192, 512), None, (8192, 512), None), _S),
        ("cosine", "huber", ((8192, 128), None, (8192, 128), None), _S),
        ("gram", "square", ((8192, 512), None, (8192, 512), None), _S),
        ("gram", "huber", ((128, 64), (100, 64), (128, 200), (100, 200)), _ALL),
        ("gram", "square", ((64, 2048, 49), None, (64, 2048, 49), None), _S),
        ("pearson", "square", ((32, 512, 196), None, (32, 512, 196), None), _S),
        ("euclidean", "huber", ((8192, 512), None, (8192, 512), None), _S),
    )
] + [
    Case("triton_edge_sum", (relation, penalty, 1.0), shapes, needs, WIDE)  # 16-bit nodes: those of the last above
    for relation, penalty, shapes, needs in (
        ("euclidean", "huber", ((8192, 128), None, (8192, 128), None), _S),
        ("rbf", "square", ((1024, 64), (1000, 64), (1024, 64), (1000, 64)), _S),
        ("squared_euclidean", "huber", ((8192, 256), None, (8192, 256), None), (False,) * 4),
    )
]  # fmt: skip
