"""Node sums on kernels: a teacher's rows against a student's, by Grams of columns or by tiles.

Operands stay in float32 for 16-bit inputs too: the sum subtracts numbers of the size of the batch.
"""

import math as numbers

import torch
from torch import Tensor

from graphkd_kernels import _blocked, autograd
from graphkd_kernels._triton.cases import Case
from graphkd_kernels._triton.configs import Math, math
from graphkd_kernels._triton.edge_sum import KINDS, Found, columns_pay, common, walk
from graphkd_kernels._triton.edges import Side, edge_value
from graphkd_kernels._triton.grams import combine, gram, product
from graphkd_kernels._triton.library import KernelRule, fit, register, wide
from graphkd_kernels._triton.rows import normalise, normalise_backward
from graphkd_kernels.autograd import Maybe, Needs, Options


class NodeSum(KernelRule):
    """options: relation, target, offset; tensors: student, teacher, everyone."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> Found:
        relation, target, offset = options
        student, teacher, everyone = tensors
        assert student is not None
        assert teacher is not None
        dtype = wide(common(*tensors))
        how, kind = math(dtype), KINDS[relation]
        t = normalise(teacher[None], None, kind, how)
        if target == "gram":
            other = teacher if everyone is None else everyone
            s = normalise(student[None], other[None], kind, how, "uv")
            value, (ds, dt) = _against_teacher(s.z[..., s.z.shape[2] // 2 :], t.z, needs, everyone is None, how)
            found = [(ds, student, s.mean, s.scale), (dt, teacher, t.mean, t.scale)]
            if ds is not None and needs[2]:
                found.append((-ds, other, s.mean_t, s.scale_t))
            elif ds is not None and needs[1] and everyone is None:
                found.append((-ds, teacher, s.mean_t, s.scale_t))
        else:
            s = normalise(student[None], None, kind, how)
            sums = _diagonal if target == "diagonal" else _identity
            value, (ds, dt) = sums(s.z, t.z, needs, offset, relation, how)
            found = [(ds, student, s.mean, s.scale), (dt, teacher, t.mean, t.scale)]
        grads = [
            None if g is None else normalise_backward(g, x[None], mean, scale, kind)[0] for g, x, mean, scale in found
        ]
        if target == "gram" and everyone is None and len(grads) == 3:  # the teacher is at both ends
            of_ends = [g for g in grads[1:] if g is not None]
            grads[1:] = [of_ends[0] + of_ends[1]]
        grads = [g if need else None for g, need in zip([*grads, None][:3], needs, strict=True)]
        return value.to(dtype), tuple(grads)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        relation, target, offset = options
        student, teacher, everyone = tensors
        value: Tensor = _blocked.OPERATIONS["node_sum"](student, teacher, relation, target, offset, everyone)
        return value


def _identity(s: Tensor, t: Tensor, needs: Needs, offset: int, relation: str, how: Math) -> Found:
    """||T S' - I||^2 = <T'T, S'S> - 2 sum <t_i, s_i> + n, with gradients 2 [S (T'T) - T] and 2 [T (S'S) - S]."""
    n, m, d = t.shape[1], s.shape[1], t.shape[2]
    own = slice(offset, offset + n)
    if not columns_pay(n, m, d):
        there, back = Side(t, s), Side(s, t)
        value, ds, dt = None, None, None
        if needs[0]:
            value, ds = walk(back, None, t, None, "product", "square", how, offset=-offset)
        if needs[1]:
            value, dt = walk(there, None, s, None, "product", "square", how, offset=offset)
        if value is None:
            value, _ = edge_value(there, None, "product", "square", how, offset=offset)
        return value, (ds, dt)
    gs, gt = gram(s, how), gram(t, how)
    total, of_t = combine(gs, gt, d, False, how, d if needs[0] else 0, 2.0)
    value = (total - 2 * (t.double() * s[:, own].double()).sum() + n).clamp_min(0)
    ds, dt = None, None
    if of_t is not None:
        ds = product(s, of_t, how)
        ds[:, own].sub_(t, alpha=2)
    if needs[1]:
        _, of_s = combine(gt, gs, d, False, how, d, 2.0)
        assert of_s is not None
        dt = product(t, of_s, how).sub_(s[:, own], alpha=2)
    return value, (ds, dt)


def _diagonal(s: Tensor, t: Tensor, needs: Needs, offset: int, relation: str, how: Math) -> Found:
    """Sum of (1 - <t_i, s_i>)^2. For unit rows 1 - <t, s> = |t - s|^2 / 2, which keeps its digits where both agree."""
    n = t.shape[1]
    own = s[:, offset : offset + n]
    if relation == "gram":
        short = 1 - (t * own).sum(-1, keepdim=True)
    else:  # a dead row has length 0 and adds a half
        lengths = t.square().sum(-1, keepdim=True).round() + own.square().sum(-1, keepdim=True).round()
        short = (t - own).square().sum(-1, keepdim=True) / 2 + (2 - lengths) / 2
    ds = None
    if needs[0]:
        ds = torch.zeros_like(s)
        ds[:, offset : offset + n] = -2 * short * t
    return short.square().sum(dtype=torch.float64), (ds, -2 * short * own if needs[1] else None)


def _against_teacher(v: Tensor, t: Tensor, needs: Needs, same: bool, how: Math) -> Found:
    """||T (S - T)'||^2 with V = (S - T) / sqrt(2): 2 <T'T, V'V>; gradients 2 sqrt(2) V (T'T), 4 T (V'V)."""
    n, m, d = t.shape[1], v.shape[1], t.shape[2]
    root, of_student = numbers.sqrt(2), needs[0] or needs[2] or (same and needs[1])
    value, ds, dt = None, None, None
    if columns_pay(n, m, d):
        gv, gt = gram(v, how), gram(t, how)
        total, of_t = combine(gv, gt, d, False, how, d if of_student else 0, 2.0)
        value = 2 * total.clamp_min(0)
        ds = None if of_t is None else product(v, of_t, how).mul_(root)
        if needs[1]:
            _, of_v = combine(gt, gv, d, False, how, d, 4.0)
            assert of_v is not None
            dt = product(t, of_v, how)
        return value, (ds, dt)
    if of_student:
        value, ds = walk(Side(v, t), None, t, None, "product", "square", how)
        ds.mul_(root)
    if needs[1]:
        value, dt = walk(Side(t, v), None, v, None, "product", "square", how, factor=2.0)
    if value is None:
        value, _ = edge_value(Side(t, v), None, "product", "square", how)
    return 2 * value, (ds, dt)


def node_sum(
    student: Tensor, teacher: Tensor, relation: str, target: str, offset: int = 0, everyone: Maybe = None
) -> Tensor:
    """Sum of squares of relation(teacher_i, student_j) minus its target; see reference.node_sum."""
    fit(student, teacher, everyone)
    if relation not in KINDS:
        from graphkd_kernels.dispatch import BackendUnavailableError  # dispatch imports the table of kernels

        raise BackendUnavailableError(
            f"backend 'triton' has node sums of {', '.join(KINDS)}, not of {relation!r}: ask for 'eager'"
        )
    return autograd.apply("triton_node_sum", (relation, target, offset), student, teacher, everyone)


register("triton_node_sum", NodeSum())
OPERATIONS = {"node_sum": node_sum}
CASES = [
    Case("triton_node_sum", ("pearson", target, 0), shapes, (True, True, False), dtypes=(torch.float32, torch.float64))
    for target in ("identity", "gram")
    for shapes in (((256, 512), (256, 512), None), ((8192, 512), (8192, 512), None))
]
