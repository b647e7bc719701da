"""``row_kl``, and the kernel of every softmax of rows: KL divergence and cross entropy of rows of given relations.

One program owns whole rows, relations are read twice: maxima, sums, and what small differences need, in one pass; the
weights, which are the gradient in the relations, in another. Exponentials are base 2, with log2(e) / T folded into the
scale. ``row_kl`` itself reads logits as they are, in two launches, the second with each row's upstream gradient.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton.configs import long_rows, math
from graphkd_kernels._triton.edge_tiles import of_squares
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.node_blocks import common
from graphkd_kernels._triton.terms import store_terms
from graphkd_kernels._triton.tiles import COUNTS, block_of, exact, load
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, apply, as_graphs
from graphkd_kernels.precision import wide, widened

__all__ = ["row_kl"]
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def shifted(z, top):
    """2^(z - top), where a top of -inf means that nothing finite was seen yet."""
    return tl.exp2(z - tl.where(top == float("-inf"), 0.0, top)[:, None])


@triton.jit
def online(z, top, total):
    """Update a running maximum and its sum of powers by a tile. Returns both, the powers, and the old sum's factor."""
    new = tl.maximum(top, tl.max(z, 1))
    power = shifted(z, new)
    factor = tl.exp2(top - tl.where(new == float("-inf"), 0.0, new))
    return new, total * factor + tl.sum(power, 1), power, factor


@triton.jit
def online_pair(s, t, live, top_s, sum_s, top_t, sum_t, gap, apart):
    """Update the numbers of both rows by a tile, keeping small differences small.

    gap is sum 2^(t - top_t) ((t - top_t) - (s - top_s)), free of common offsets; apart is sum_s - sum_t.
    """
    new_s, more_s, power_s, factor_s = online(s, top_s, sum_s)
    new_t, more_t, power_t, factor_t = online(t, top_t, sum_t)
    # The first tile has no older sum to move; -inf - -inf there would be a NaN.
    moved = tl.where(sum_t == 0, 0.0, (new_s - top_s) - (new_t - top_t))
    gap = (gap + sum_t * moved) * factor_t
    counts = live & (power_t != 0)  # 0 log 0 = 0, also for a class of -inf
    gap += tl.sum(tl.where(counts, power_t * ((t - new_t[:, None]) - (s - new_s[:, None])), 0.0), 1)
    apart = apart * factor_t + sum_s * (factor_s - factor_t) + tl.sum(power_s - power_t, 1)
    return new_s, more_s, new_t, more_t, gap, apart


@triton.jit
def log1p(x):
    """log(1 + x) to the precision of x, also where x is small (Triton has it for NVIDIA only)."""
    y = 1 + x
    return tl.where(y == 1, x, tl.log(y) * (x / tl.where(y == 1, 1.0, y - 1)))


@triton.jit
def divergence(gap, sum_s, sum_t, apart, SUMS: tl.constexpr):
    """KL from the numbers of a row."""
    ratio = apart / sum_t
    near = tl.abs(ratio) < 0.5
    log = tl.where(near, log1p(tl.where(near, ratio, 0.0)), tl.log(sum_s) - tl.log(sum_t))
    return gap / sum_t * exact(LN2, SUMS) + log


@triton.jit
def store_norm(ptr, place, step, keep, top, total):
    """Maximum and logarithm of the sum apart: their sum would round away what the logits have."""
    tl.store(ptr + place, top, mask=keep)
    tl.store(ptr + step + place, tl.log2(total), mask=keep)


@triton.jit
def load_norm(ptr, place, step, keep):
    """What :func:`store_norm` stored."""
    return tl.load(ptr + place, mask=keep, other=0.0), tl.load(ptr + step + place, mask=keep, other=0.0)


@triton.jit
def _logits(
    ptr, row, column, n, m, stride, scale, gamma, RELATION: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Logits [ROWS, COLUMNS] from a matrix of products or squared distances, -inf outside, and the relation's slope."""
    z = load(ptr, row, column, n, m, stride).to(SUMS)
    if RELATION == 0:
        steep = tl.zeros_like(z) + 1.0
    else:
        z, steep = of_squares(z, gamma, 0.0, RELATION)
    return tl.where((column < m)[None, :], z * scale, float("-inf")), steep


@triton.jit(do_not_specialize=COUNTS)
def row_kl_kernel(
    s_ptr, t_ptr, positive_ptr, up_ptr,
    value_ptr, norm_s_ptr, norm_t_ptr, ws_ptr, wt_ptr,
    n, m, tiles, s_batch, t_batch, w_batch, s_row, t_row, w_row, w_step, up_step,
    scale: tl.float64, temperature: tl.float64, gamma: tl.float64,
    TEACHER: tl.constexpr, STATISTICS: tl.constexpr, WS: tl.constexpr, WT: tl.constexpr,
    TERMS_S: tl.constexpr, TERMS_T: tl.constexpr, RELATION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Rows of s and t (b, n, m) to their divergence; where WS, WT also to the gradient, which may overwrite them.

    The gradient is stored as TERMS_S and TERMS_T terms (``terms``), 0 up to w_row columns; 0 terms: as it is.

    TEACHER: KL(t || s); else cross entropy of s with the column positive. STATISTICS: else value, norm_s and norm_t are
    read. The gradient is multiplied by the row's entry of up, if there is one. scale is log2(e) / temperature.
    """
    scale, gamma = exact(scale, SUMS), exact(gamma, SUMS)
    graph, row = block_of(tiles, ROWS)
    keep = row < n
    s_ptr += graph * s_batch
    place, step = graph * n + row, (tl.num_programs(0) // tiles).to(tl.int64) * n
    value = tl.zeros([ROWS], SUMS)
    log_s, log_t = value, value
    positive = tl.full([ROWS], -1, tl.int64)
    if TEACHER:
        t_ptr += graph * t_batch
    else:
        positive = tl.load(positive_ptr + place, mask=keep, other=-1)
    if STATISTICS:
        top_s, top_t = tl.full([ROWS], float("-inf"), SUMS), tl.full([ROWS], float("-inf"), SUMS)
        sum_s, sum_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
        gap, apart = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
        for start in range(0, m, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            s, _ = _logits(s_ptr, row, column, n, m, s_row, scale, gamma, RELATION, SUMS)
            if TEACHER:
                t, _ = _logits(t_ptr, row, column, n, m, t_row, scale, gamma, RELATION, SUMS)
                live = (column < m)[None, :]
                top_s, sum_s, top_t, sum_t, gap, apart = online_pair(s, t, live, top_s, sum_s, top_t, sum_t, gap, apart)
            else:
                top_s, sum_s, _, _ = online(s, top_s, sum_s)
                gap += tl.sum(tl.where(column[None, :] == positive[:, None], s, 0.0), 1)
        log_s, log_t = tl.log2(sum_s), tl.log2(sum_t)
        if TEACHER:
            value = divergence(gap, sum_s, sum_t, apart, SUMS)
            store_norm(norm_t_ptr, place, step, keep, top_t, sum_t)
        else:
            value = ((top_s - gap) + log_s) * exact(LN2, SUMS)
        tl.store(value_ptr + place, value, mask=keep)
        store_norm(norm_s_ptr, place, step, keep, top_s, sum_s)
    else:
        top_s, log_s = load_norm(norm_s_ptr, place, step, keep)
        top_t = top_s
        if TEACHER:
            top_t, log_t = load_norm(norm_t_ptr, place, step, keep)
            value = tl.load(value_ptr + place, mask=keep, other=0.0)
    if WS or WT:
        up = tl.full([ROWS], 1.0, SUMS)
        if up_ptr is not None:
            up = tl.load(up_ptr + place * up_step, mask=keep, other=0.0).to(SUMS)
        up = (up / exact(temperature, SUMS))[:, None]
        for start in range(0, m, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            there, live = (column < m)[None, :], keep[:, None] & (column < w_row)[None, :]
            out = graph * w_batch + row.to(tl.int64)[:, None] * w_row + column[None, :]
            s, steep = _logits(s_ptr, row, column, n, m, s_row, scale, gamma, RELATION, SUMS)
            s = (s - top_s[:, None]) - log_s[:, None]
            if TEACHER:
                t, steep_t = _logits(t_ptr, row, column, n, m, t_row, scale, gamma, RELATION, SUMS)
                t = (t - top_t[:, None]) - log_t[:, None]
                p = tl.exp2(t)
                if WT:
                    excess = tl.where(p == 0, 0.0, (t - s) * exact(LN2, SUMS))
                    w = p * (excess - value[:, None]) * up * steep_t
                    store_terms(wt_ptr, out, w_step, tl.where(there, w, 0.0), live, TERMS_T, UPCAST)
            else:
                p = tl.where(column[None, :] == positive[:, None], 1.0, 0.0).to(SUMS)
            if WS:
                w = (tl.exp2(s) - p) * up * steep
                store_terms(ws_ptr, out, w_step, tl.where(there, w, 0.0), live, TERMS_S, UPCAST)


LOG2E = 1.4426950408889634


def matrices(*tensors: Tensor) -> list[Tensor]:
    """(*b, n, m) of one shape to (b, n, m), columns adjacent in memory; 16-bit inputs are not copied."""
    found = [as_graphs(each if each.ndim > 1 else each[None]) for each in tensors]
    return [each if each.stride(-1) == 1 else each.contiguous() for each in found]


def stepped(upstream: Tensor) -> tuple[Tensor, int]:
    """An upstream gradient, and the step between its numbers: 0 where it is one number expanded, as a sum's is."""
    return (upstream.contiguous(), 1) if any(upstream.stride()) else (upstream, 0)


def one_per_row(student: Tensor, teacher: Tensor, *options: Any) -> Tensor:
    """An empty value for each row, as the compiler sees it."""
    return student.new_empty(student.shape[:-1], dtype=wide(common(student, teacher)))


def gradients_like(x: Tensor, y: Tensor, needs: Needs) -> list[Maybe]:
    """Outputs for the gradients that are needed."""
    return [
        empty(each.shape, each.dtype, each.device) if need else None for each, need in zip((x, y), needs, strict=True)
    ]


def _launch(
    temperature: float, s: Tensor, t: Tensor, value: Tensor, norms: Tensor, up: Maybe, up_step: int, out: list[Maybe]
) -> None:
    (b, n, m), dtype, (norm_s, norm_t) = s.shape, wide(common(s, t)), norms.unbind()
    config = long_rows(m, dtype, s.device)
    tiles = triton.cdiv(n, config.rows)
    launch(
        row_kl_kernel, (b * tiles,), config, math(dtype), s_ptr=s, t_ptr=t, positive_ptr=None, up_ptr=up,
        value_ptr=value, norm_s_ptr=norm_s, norm_t_ptr=norm_t, up_step=up_step, ws_ptr=out[0], wt_ptr=out[1], n=n, m=m,
        tiles=tiles, s_batch=s.stride(0), t_batch=t.stride(0), w_batch=n * m, s_row=s.stride(1), t_row=t.stride(1),
        w_row=m, w_step=0, scale=LOG2E / temperature, temperature=float(temperature), gamma=1.0, TEACHER=True,
        STATISTICS=up is None, WS=out[0] is not None, WT=out[1] is not None, TERMS_S=0, TERMS_T=0, RELATION=0,
        UPCAST=False,
    )  # fmt: skip


def _gradients(needs: Needs, student: Tensor, teacher: Tensor, temperature: float) -> Found:
    (s, t), dtype = matrices(student, teacher), wide(common(student, teacher))
    value, norms = empty(student.shape[:-1], dtype, s.device), empty((2, 2, *s.shape[:2]), dtype, s.device)
    _launch(temperature, s, t, value, norms, None, 0, [None, None])
    return value, (value, norms)


def _finish(
    needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: tuple[Tensor, Tensor], temperature: float
) -> Kept:
    s, t = matrices(*tensors)
    out, (value, norms) = gradients_like(*tensors, needs), kept
    _launch(temperature, s, t, value, norms, *stepped(upstream), out)
    return tuple(out)


kernel_rule("triton/row_kl", _gradients, widened(reference.row_kl), finish=_finish, empty=one_per_row)


def row_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) of each row: ``reference.row_kl``."""
    fit(student, teacher)
    return apply("triton/row_kl", (float(temperature),), student, teacher)
