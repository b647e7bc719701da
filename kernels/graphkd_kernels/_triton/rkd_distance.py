"""``rkd_distance``: distances of all pairs relative to their mean, in two sweeps over blocks of them (``terms``,
``squares``).

The first sums the distances, and the gradient of that sum; with both means known, the second makes the value, the
gradient at fixed means, and the derivative in the student's mean: dL/dx = G1 - kappa G2 (kernels/README.md). Squared
distances of few nodes stay from the first sweep to the second.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import interpreting, node_blocks
from graphkd_kernels._triton.configs import long_rows, math, short_tile
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import Config, empty, launch
from graphkd_kernels._triton.node_blocks import NodeProducts
from graphkd_kernels._triton.row_kl import gradients_like
from graphkd_kernels._triton.terms import store_terms, terms_of
from graphkd_kernels._triton.tiles import COUNTS, huber_slope, load
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, apply
from graphkd_kernels.precision import wide, widened

__all__ = ["rkd_distance"]
LEAST = 1e-12  # of squared distances off the diagonal, as RKD has it
KEPT = 2**26
"""Squared distances of one network that stay: 256 MB."""


@triton.jit
def _distance(ptr, row, column, first, n, m, p_row, LEAST: tl.constexpr):
    """Distances of a tile, 0 on the diagonal and outside, and 1 / distance, which is 0 where no gradient passes."""
    square = load(ptr, row, column, n, m, p_row)
    none = (first + row[:, None] == column[None, :]) | (column >= m)[None, :] | (row >= n)[:, None]
    flat = none | (square < LEAST)  # a NaN is not, and passes
    length = tl.sqrt(tl.where(flat, LEAST, square))
    return tl.where(none, 0.0, length), tl.where(flat, 0.0, 1.0 / length)


@triton.jit(do_not_specialize=COUNTS)
def rkd_sum_kernel(
    p_ptr, sum_ptr, w_ptr, w_sum_ptr, first, n, m, p_row, w_row, w_step,
    WEIGHTS: tl.constexpr, TERMS: tl.constexpr, LEAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Sums of the distances of rows first .. first + n to all m nodes.

    WEIGHTS: also their derivatives in x_i - x_j, as so many terms (0: as they are), and the rows' sums of those.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total, weights = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        length, inverse = _distance(p_ptr, row, column, first, n, m, p_row, LEAST)
        total += tl.sum(length, 1)
        if WEIGHTS:
            keep = (row < n)[:, None] & (column < w_row)[None, :]
            place = row.to(tl.int64)[:, None] * w_row + column[None, :]
            weights += tl.sum(inverse - store_terms(w_ptr, place, w_step, inverse, keep, TERMS, UPCAST), 1)
    tl.store(sum_ptr + row, total, mask=row < n)
    if WEIGHTS:
        tl.store(w_sum_ptr + row, weights, mask=row < n)


@triton.jit(do_not_specialize=COUNTS)
def rkd_kernel(
    s_ptr, t_ptr, mean_ptr,
    value_ptr, slope_s_ptr, slope_t_ptr, ws_ptr, wt_ptr, ws_sum_ptr, wt_sum_ptr,
    first, n, m, s_row, t_row, w_row, w_step,
    WS: tl.constexpr, WT: tl.constexpr, TERMS_S: tl.constexpr, TERMS_T: tl.constexpr,
    LEAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Rows' sums of smooth-L1 differences and of their slopes times either side's distances; weights as above."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mean_s, mean_t = tl.load(mean_ptr), tl.load(mean_ptr + 1)
    value, slope_s, slope_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    sum_s, sum_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        s, inverse_s = _distance(s_ptr, row, column, first, n, m, s_row, LEAST)
        t, inverse_t = _distance(t_ptr, row, column, first, n, m, t_row, LEAST)
        gap = s / mean_s - t / mean_t
        h = huber_slope(gap)
        value += tl.sum(h * (gap - 0.5 * h), 1)
        slope_s += tl.sum(h * s, 1)
        slope_t += tl.sum(h * t, 1)
        keep = (row < n)[:, None] & (column < w_row)[None, :]
        place = row.to(tl.int64)[:, None] * w_row + column[None, :]
        if WS:
            w = h * inverse_s
            sum_s += tl.sum(w - store_terms(ws_ptr, place, w_step, w, keep, TERMS_S, UPCAST), 1)
        if WT:
            w = -h * inverse_t
            sum_t += tl.sum(w - store_terms(wt_ptr, place, w_step, w, keep, TERMS_T, UPCAST), 1)
    tl.store(value_ptr + row, value, mask=row < n)
    tl.store(slope_s_ptr + row, slope_s, mask=row < n)
    tl.store(slope_t_ptr + row, slope_t, mask=row < n)
    if WS:
        tl.store(ws_sum_ptr + row, sum_s, mask=row < n)
    if WT:
        tl.store(wt_sum_ptr + row, sum_t, mask=row < n)


@triton.jit
def _total(ptr, n):
    """The float64 sum of n numbers, in their order."""
    at, total = tl.arange(0, 1024), tl.zeros([1024], tl.float64)
    for start in range(0, n, 1024):
        total += tl.load(ptr + start + at, mask=start + at < n, other=0.0).to(tl.float64)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=["n"])
def rkd_means_kernel(sum_s_ptr, sum_t_ptr, mean_ptr, n):
    """Mean distance of each network; 1 where all its nodes are in one place."""
    pairs = tl.maximum(tl.cast(n, tl.float64) * (n - 1), 1.0)
    mean_s, mean_t = _total(sum_s_ptr, n) / pairs, _total(sum_t_ptr, n) / pairs
    tl.store(mean_ptr, tl.where(mean_s == 0, 1.0, mean_s))
    tl.store(mean_ptr + 1, tl.where(mean_t == 0, 1.0, mean_t))


@triton.jit(do_not_specialize=["n"])
def rkd_value_kernel(part_ptr, slope_s_ptr, slope_t_ptr, mean_ptr, value_ptr, factor_ptr, n):
    """The value, and the factors (2, 2) of the gradient at fixed means, and of the means' own, in S and in T.

    Pairs count in both orientations, hence the 2.
    """
    count = tl.cast(n, tl.float64)
    tl.store(value_ptr, _total(part_ptr, n) / (count * count))
    scale = 2.0 / (count * count)
    pairs = tl.maximum(count * (count - 1), 1.0)
    mean_s, mean_t = tl.load(mean_ptr).to(tl.float64), tl.load(mean_ptr + 1).to(tl.float64)
    tl.store(factor_ptr, scale / mean_s)
    tl.store(factor_ptr + 1, -scale * _total(slope_s_ptr, n) / (mean_s * mean_s * pairs))
    tl.store(factor_ptr + 2, scale / mean_t)
    tl.store(factor_ptr + 3, scale * _total(slope_t_ptr, n) / (mean_t * mean_t * pairs))


@triton.jit(do_not_specialize=COUNTS)
def rkd_gradient_kernel(
    x_ptr, fixed_ptr, fixed_sum_ptr, mean_ptr, mean_sum_ptr, factor_ptr, up_ptr, out_ptr, n, d, tiles,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Both parts of the gradient, sum_j w_ij (x_i - x_j), from w x and the sums of w, times their factors."""
    row = (tl.program_id(0) // tiles) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    up = tl.load(up_ptr).to(SUMS)
    of_fixed, of_mean = tl.load(factor_ptr) * up, tl.load(factor_ptr + 1) * up
    fixed_sum = tl.load(fixed_sum_ptr + row, mask=row < n, other=0.0)[:, None]
    mean_sum = tl.load(mean_sum_ptr + row, mask=row < n, other=0.0)[:, None]
    x = load(x_ptr, row, column, n, d, d).to(SUMS)
    found = of_fixed * (x * fixed_sum - load(fixed_ptr, row, column, n, d, d))
    found += of_mean * (x * mean_sum - load(mean_ptr, row, column, n, d, d))
    place = row.to(tl.int64)[:, None] * d + column[None, :]
    keep = (row < n)[:, None] & (column < d)[None, :]
    tl.store(out_ptr + place, found.to(out_ptr.dtype.element_ty), mask=keep)


class _Distances:
    """One network's nodes, the sums of its distances, and what its gradient is made of."""

    def __init__(self, x: Tensor, needed: bool) -> None:
        n, device, dtype = len(x), x.device, wide(x.dtype)
        self.x, self.needed, self.how = node_blocks.prepared(x, None, "euclidean")[0].contiguous(), needed, math(dtype)
        self.nodes = NodeProducts(self.x, None, (False, False), terms_of(x.dtype))
        self.kept, self.of_mean, self.fixed = list[Tensor](), list[Tensor](), list[Tensor]()
        self.sums, self.mean_sums, self.fixed_sums = (empty((n,), dtype, device) for _ in range(3))
        config = long_rows(n, dtype, device)
        for index, (_, row) in enumerate(node_blocks.blocks(1, n, n)):
            block, count = self.squares(index, row), row.stop - row.start
            w = self.weights(block)
            w_row, w_step = (0, 0) if w is None else (w.stride(2), w.stride(0))
            launch(
                rkd_sum_kernel, (triton.cdiv(count, config.rows),), config, self.how, p_ptr=block,
                sum_ptr=self.sums[row], w_ptr=w, w_sum_ptr=self.mean_sums[row], first=row.start, n=count, m=n,
                p_row=block.stride(0), w_row=w_row, w_step=w_step, WEIGHTS=needed, TERMS=self.nodes.terms, LEAST=LEAST,
                UPCAST=interpreting(),
            )  # fmt: skip
            self.pull(self.of_mean, w)

    def squares(self, index: int, row: slice) -> Tensor:
        """Squared distances of some rows from all; those of the first sweep where there are few."""
        if index < len(self.kept):
            return self.kept[index]
        block = self.nodes.squares(slice(0, 1), row)[0]
        if len(self.x) ** 2 <= KEPT:
            self.kept.append(block)
        return block

    def weights(self, block: Tensor) -> Maybe:
        """Where the weights of a block go."""
        return self.nodes.weights(block.unsqueeze(0)) if self.needed else None

    def pull(self, parts: list[Tensor], weights: Maybe) -> None:
        """The weights of some rows times all nodes."""
        if weights is not None:
            parts.append(self.nodes.times(weights, slice(0, 1))[0])

    def parts(self) -> Kept:
        """What the gradient is made of, in the order of the kernel's arguments."""
        if not self.needed:
            return (None,) * 5
        fixed, of_mean = (each[0] if len(each) == 1 else torch.cat(each) for each in (self.fixed, self.of_mean))
        return self.x, fixed, self.fixed_sums, of_mean, self.mean_sums


def _gradients(needs: Needs, x: Tensor, y: Tensor) -> Found:
    """Two sweeps; the value, and what the gradients are made of."""
    n, student, teacher = len(x), _Distances(x, needs[0]), _Distances(y, needs[1])
    how, device = student.how, x.device
    parts, slope_s, slope_t = (empty((n,), how.sums, device) for _ in range(3))
    means, factors = empty((2,), how.sums, device), empty((2, 2), how.sums, device)
    one, value = Config(1, 1, 1, 4, 1), empty((), how.sums, device)
    launch(rkd_means_kernel, (1,), one, how, sum_s_ptr=student.sums, sum_t_ptr=teacher.sums, mean_ptr=means, n=n)
    config = long_rows(n, how.sums, device, 4096)  # larger tiles spill
    for index, (_, row) in enumerate(node_blocks.blocks(1, n, n)):
        s, t, count = student.squares(index, row), teacher.squares(index, row), row.stop - row.start
        ws, wt = student.weights(s), teacher.weights(t)
        some = next((each for each in (ws, wt) if each is not None), s[None, None])
        launch(
            rkd_kernel, (triton.cdiv(count, config.rows),), config, how, s_ptr=s, t_ptr=t, mean_ptr=means,
            value_ptr=parts[row], slope_s_ptr=slope_s[row], slope_t_ptr=slope_t[row], ws_ptr=ws,
            wt_ptr=wt, ws_sum_ptr=student.fixed_sums[row], wt_sum_ptr=teacher.fixed_sums[row], first=row.start,
            n=count, m=n, s_row=s.stride(0), t_row=t.stride(0), w_row=some.stride(2), w_step=some.stride(0),
            WS=needs[0], WT=needs[1], TERMS_S=student.nodes.terms, TERMS_T=teacher.nodes.terms, LEAST=LEAST,
            UPCAST=interpreting(),
        )  # fmt: skip
        student.pull(student.fixed, ws)
        teacher.pull(teacher.fixed, wt)
    launch(
        rkd_value_kernel, (1,), one, how, part_ptr=parts, slope_s_ptr=slope_s, slope_t_ptr=slope_t, mean_ptr=means,
        value_ptr=value, factor_ptr=factors, n=n,
    )  # fmt: skip
    return value, (*student.parts(), *teacher.parts(), factors)


def _finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: Kept) -> Kept:
    out, factors = gradients_like(*tensors, needs), kept[-1]
    assert factors is not None
    for side, gradient in enumerate(out):
        if gradient is None:
            continue
        x, fixed, fixed_sums, of_mean, mean_sums = kept[5 * side : 5 * side + 5]
        (n, d), config = gradient.shape, short_tile(gradient.shape[1], factors.dtype, gradient.device)
        tiles = triton.cdiv(d, config.columns)
        launch(
            rkd_gradient_kernel, (triton.cdiv(n, config.rows) * tiles,), config, math(factors.dtype), x_ptr=x,
            fixed_ptr=fixed, fixed_sum_ptr=fixed_sums, mean_ptr=of_mean, mean_sum_ptr=mean_sums,
            factor_ptr=factors[side], up_ptr=upstream, out_ptr=gradient, n=n, d=d, tiles=tiles,
        )  # fmt: skip
    return tuple(out)


kernel_rule("triton/rkd_distance", _gradients, widened(reference.rkd_distance), finish=_finish)


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean smooth-L1 difference of relative distances: ``reference.rkd_distance``."""
    fit(student, teacher)
    (s, _), (t, _) = node_blocks.one_precision(student, None, teacher, None)
    assert s is not None
    assert t is not None
    return apply("triton/rkd_distance", (), s, t)
