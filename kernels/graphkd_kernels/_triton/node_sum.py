r"""``node_sum``: a teacher's rows against a student's, by Grams of columns or by tiles.

.. math::
    \lVert T S^\top - I \rVert^2 &= \langle T^\top T, S^\top S \rangle - 2 \sum_i \langle t_i, s_{o+i} \rangle + n \\
    \lVert T S^\top - T T_*^\top \rVert^2 &= 2 \langle T^\top T, V^\top V \rangle, \qquad V = (S - T_*) / \sqrt 2

Operands stay in float32 for 16-bit inputs too: the sum subtracts numbers of the size of the batch.
"""

from math import sqrt

import torch
from torch import Tensor

from graphkd_kernels import _blocked
from graphkd_kernels._triton.configs import math
from graphkd_kernels._triton.edge_sum import columns_pay
from graphkd_kernels._triton.edge_tiles import Difference, Operands, walk
from graphkd_kernels._triton.grams import combine, gram, product
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import Math
from graphkd_kernels._triton.node_blocks import common
from graphkd_kernels._triton.rows import normalise, normalise_backward
from graphkd_kernels.autograd import Found, Maybe, Needs, apply
from graphkd_kernels.errors import BackendUnavailableError
from graphkd_kernels.plans import INNER
from graphkd_kernels.precision import wide

__all__ = ["node_sum"]


def _gradients(
    needs: Needs, student: Tensor, teacher: Tensor, everyone: Maybe, relation: str, target: str, offset: int
) -> Found:
    dtype = wide(common(student, teacher, everyone))
    how, found = math(dtype), list[Maybe]([None] * 3)
    t = normalise(teacher[None], None, relation, how)
    if target == "gram":
        other = teacher if everyone is None else everyone
        s = normalise(student[None], other[None], relation, how, "uv")
        value, (ds, dt) = _against_teacher(s.z[..., s.z.shape[2] // 2 :], t.z, needs, everyone is None, how)
        if ds is not None and (needs[2] or (everyone is None and needs[1])):
            found[2] = normalise_backward(-ds, other[None], s.statistics[1], relation)[0]
    else:
        s = normalise(student[None], None, relation, how)
        sums = _diagonal if target == "diagonal" else _identity
        value, (ds, dt) = sums(s.z, t.z, needs, offset, relation, how)
    for which, g, x, rows in ((0, ds, student, s), (1, dt, teacher, t)):
        if g is not None and needs[which]:
            found[which] = normalise_backward(g, x[None], rows.statistics[0], relation)[0]
    if everyone is None:
        if found[1] is not None and found[2] is not None:  # the teacher is at both ends
            found[1] = found[1] + found[2]
        found[2] = None
    return value.to(dtype), tuple(found)


def _formula(student: Tensor, teacher: Tensor, everyone: Maybe, relation: str, target: str, offset: int) -> Tensor:
    value: Tensor = _blocked.OPERATIONS["node_sum"](student, teacher, relation, target, offset, everyone)
    return value


def _tiles(a: Tensor, b: Tensor, how: Math, offset: int | None = None) -> Difference:
    return Difference(Operands(a, b), None, "product", "square", how, offset)


def _identity(s: Tensor, t: Tensor, needs: Needs, offset: int, relation: str, how: Math) -> Found:
    """Gradients 2 [S (T'T) - T] and 2 [T (S'S) - S]."""
    n, m, d = t.shape[1], s.shape[1], t.shape[2]
    own = slice(offset, offset + n)
    value, ds, dt = None, None, None
    if not columns_pay(n, m, d):
        if needs[0]:
            value, ds = walk(_tiles(s, t, how, -offset), t)
        if needs[1]:
            value, dt = walk(_tiles(t, s, how, offset), s)
        if value is None:
            value, _ = _tiles(t, s, how, offset).value()
        return value, (ds, dt)
    total, ds, dt = _by_grams(s, t, needs[0], needs[1], how, 2.0)
    value = (total - 2 * (t.double() * s[:, own].double()).sum() + n).clamp_min(0)
    if ds is not None:
        ds[:, own].sub_(t, alpha=2)
    return value, (ds, None if dt is None else dt.sub_(s[:, own], alpha=2))


def _by_grams(
    a: Tensor, b: Tensor, need_a: bool, need_b: bool, how: Math, factor: float
) -> tuple[Tensor, Maybe, Maybe]:
    """<A'A, B'B>, 2 A (B'B) and factor * B (A'A)."""
    ga, gb, d = gram(a, how), gram(b, how), a.shape[2]
    total, of_b = combine(ga, gb, d, False, how, d if need_a else 0, 2.0)
    of_a = combine(gb, ga, d, False, how, d, factor)[1] if need_b else None
    return total, None if of_b is None else product(a, of_b, how), None if of_a is None else product(b, of_a, how)


def _diagonal(s: Tensor, t: Tensor, needs: Needs, offset: int, relation: str, how: Math) -> Found:
    """Sum of (1 - <t_i, s_i>)^2. For unit rows 1 - <t, s> = |t - s|^2 / 2, which keeps its digits where both agree."""
    own = s[:, offset : offset + t.shape[1]]
    if relation == "gram":
        short = 1 - (t * own).sum(-1, keepdim=True)
    else:  # a dead row has length 0 and adds a half
        lengths = t.square().sum(-1, keepdim=True).round() + own.square().sum(-1, keepdim=True).round()
        short = (t - own).square().sum(-1, keepdim=True) / 2 + (2 - lengths) / 2
    ds = torch.zeros_like(s)
    ds[:, offset : offset + t.shape[1]] = -2 * short * t
    return short.square().sum(dtype=torch.float64), (ds if needs[0] else None, -2 * short * own if needs[1] else None)


def _against_teacher(v: Tensor, t: Tensor, needs: Needs, same: bool, how: Math) -> Found:
    """2 <T'T, V'V>; gradients 2 sqrt(2) V (T'T), 4 T (V'V)."""
    of_student = needs[0] or needs[2] or (same and needs[1])
    if columns_pay(t.shape[1], v.shape[1], t.shape[2]):
        total, ds, dt = _by_grams(v, t, of_student, needs[1], how, 4.0)
        return 2 * total.clamp_min(0), (None if ds is None else ds.mul_(sqrt(2)), dt)
    value, ds, dt = None, None, None
    if of_student:
        value, ds = walk(_tiles(v, t, how), t)
        ds.mul_(sqrt(2))
    if needs[1]:
        value, dt = walk(_tiles(t, v, how), v, factor=2.0)
    if value is None:
        value, _ = _tiles(t, v, how).value()
    return 2 * value, (ds, dt)


kernel_rule("triton/node_sum", _gradients, _formula)


def node_sum(
    student: Tensor, teacher: Tensor, relation: str, target: str, offset: int = 0, everyone: Maybe = None
) -> Tensor:
    """Sum of squares of relation(teacher_i, student_j) minus its target: ``reference.node_sum``."""
    fit(student, teacher, everyone)
    if relation not in INNER:
        raise BackendUnavailableError(
            f"backend 'triton' has node sums of {', '.join(INNER)}, not of {relation!r}: ask for 'eager'"
        )
    return apply("triton/node_sum", (relation, target, offset), student, teacher, everyone)
