"""``rkd_distance``: distances of all pairs relative to their mean, in two sweeps over blocks of vendor products.

The first sums the distances, and the gradient of that sum; with both means known, the second makes the value, the
gradient at fixed means, and the derivative in the student's mean: dL/dx = G1 - kappa G2 (kernels/README.md).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import node_blocks
from graphkd_kernels._triton.configs import long_rows, math
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.tiles import COUNTS, huber_slope, load
from graphkd_kernels.autograd import Found, Needs, apply

__all__ = ["rkd_distance"]
LEAST = 1e-12  # of squared distances off the diagonal, as RKD has it


@triton.jit
def _distance(ptr, row_size, size_ptr, row, column, first, n, m, LEAST: tl.constexpr, TINY: tl.constexpr):
    """Distances of a tile, 0 on the diagonal and outside, and 1 / distance, which is 0 where no gradient passes."""
    product = load(ptr, row, column, n, m, m)
    column_size = tl.load(size_ptr + column, mask=column < m, other=0.0)
    sizes = row_size[:, None] + column_size[None, :]
    square = sizes - 2.0 * product
    none = (first + row[:, None] == column[None, :]) | (column >= m)[None, :] | (row >= n)[:, None]
    flat = none | (square <= TINY * sizes) | (square < LEAST)  # a NaN is not, and passes
    length = tl.sqrt(tl.where(flat, LEAST, square))
    return tl.where(none, 0.0, length), tl.where(flat, 0.0, 1.0 / length)


@triton.jit(do_not_specialize=COUNTS)
def rkd_sum_kernel(
    p_ptr, row_ptr, size_ptr, sum_ptr, w_ptr, first, n, m,
    LEAST: tl.constexpr, TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Sums of the distances of rows first .. first + n to all m nodes; where w, also their derivatives in x_i - x_j."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_size = tl.load(row_ptr + row, mask=row < n, other=0.0)
    total = tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        length, inverse = _distance(p_ptr, row_size, size_ptr, row, column, first, n, m, LEAST, TINY)
        total += tl.sum(length, 1)
        if w_ptr is not None:
            keep = (row < n)[:, None] & (column < m)[None, :]
            tl.store(w_ptr + row.to(tl.int64)[:, None] * m + column[None, :], inverse, mask=keep)
    tl.store(sum_ptr + row, total, mask=row < n)


@triton.jit(do_not_specialize=COUNTS)
def rkd_kernel(
    s_ptr, t_ptr, row_s_ptr, row_t_ptr, size_s_ptr, size_t_ptr, mean_s_ptr, mean_t_ptr,
    value_ptr, slope_s_ptr, slope_t_ptr, first, n, m,
    WS: tl.constexpr, WT: tl.constexpr, LEAST: tl.constexpr, TINY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Rows' sums of smooth-L1 differences, of their slopes times either side's distances, and weights over s and t."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_s = tl.load(row_s_ptr + row, mask=row < n, other=0.0)
    row_t = tl.load(row_t_ptr + row, mask=row < n, other=0.0)
    mean_s, mean_t = tl.load(mean_s_ptr), tl.load(mean_t_ptr)
    value, slope_s, slope_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        s, inverse_s = _distance(s_ptr, row_s, size_s_ptr, row, column, first, n, m, LEAST, TINY)
        t, inverse_t = _distance(t_ptr, row_t, size_t_ptr, row, column, first, n, m, LEAST, TINY)
        gap = s / mean_s - t / mean_t
        h = huber_slope(gap)
        value += tl.sum(h * (gap - 0.5 * h), 1)
        slope_s += tl.sum(h * s, 1)
        slope_t += tl.sum(h * t, 1)
        keep = (row < n)[:, None] & (column < m)[None, :]
        place = row.to(tl.int64)[:, None] * m + column[None, :]
        if WS:
            tl.store(s_ptr + place, h * inverse_s, mask=keep)
        if WT:
            tl.store(t_ptr + place, -h * inverse_t, mask=keep)
    tl.store(value_ptr + row, value, mask=row < n)
    tl.store(slope_s_ptr + row, slope_s, mask=row < n)
    tl.store(slope_t_ptr + row, slope_t, mask=row < n)


class _Distances:
    """One network's centred nodes, the sum of its distances, and the parts of its gradient."""

    def __init__(self, x: Tensor, needed: bool) -> None:
        self.x, self.needed = (x - x.mean(0, keepdim=True)).contiguous(), needed
        self.own = len(x) ** 2 <= node_blocks.ENTRIES
        self.sizes = self.x.square().sum(-1)
        self.block: Tensor | None = None
        how, n, config = math(x.dtype), len(x), long_rows(len(x), x.dtype, x.device)
        self.of_mean, self.fixed = torch.zeros_like(self.x), torch.zeros_like(self.x)
        sums = empty((n,), self.x.dtype, x.device)
        for _, row in node_blocks.blocks(1, n, n):
            self.block, count = self.products(row), row.stop - row.start
            if self.own:  # sizes from the same product as the rest
                self.sizes = self.block.diagonal().contiguous()
            weights = torch.empty_like(self.block) if needed else None
            launch(
                rkd_sum_kernel, (triton.cdiv(count, config.rows),), config, how, p_ptr=self.block,
                row_ptr=self.sizes[row], size_ptr=self.sizes, sum_ptr=sums[row], w_ptr=weights, first=row.start,
                n=count, m=n, LEAST=LEAST, TINY=how.tiny,
            )  # fmt: skip
            if weights is not None:
                self.add(self.of_mean, weights, row)
        mean = sums.sum() / max(n * (n - 1), 1)
        self.mean = torch.where(mean == 0, 1.0, mean)

    def products(self, row: slice) -> Tensor:
        """Products of some rows with all; those of the first sweep where they are still there."""
        return self.block if self.own and self.block is not None else self.x[row] @ self.x.T

    def add(self, target: Tensor, weights: Tensor, row: slice) -> None:
        """Add 2 sum_j w_ij (x_i - x_j): both orientations of each pair."""
        x = self.x.unsqueeze(0)
        node_blocks.add_gradients(weights.unsqueeze(0), x[:, row], x, target[row].unsqueeze(0), None, True)

    def gradient(self, slopes: Tensor, sign: float) -> Tensor:
        """Of the mean smooth-L1 difference, from the rows' slopes in the mean."""
        n = len(self.x)
        shift = slopes.sum() / (self.mean.square() * (n**2 * max(n * (n - 1), 1)))
        return self.fixed.mul_(2 / (n**2 * self.mean)).sub_(self.of_mean.mul_(2 * sign * shift))


def _gradients(needs: Needs, x: Tensor, y: Tensor) -> Found:
    """Two sweeps; value and gradients together."""
    n, how, student, teacher = len(x), math(x.dtype), _Distances(x, needs[0]), _Distances(y, needs[1])
    value, slope_s, slope_t = (empty((n,), x.dtype, x.device) for _ in range(3))
    config = long_rows(n, x.dtype, x.device)
    for _, row in node_blocks.blocks(1, n, n):
        s, t, count = student.products(row), teacher.products(row), row.stop - row.start
        launch(
            rkd_kernel, (triton.cdiv(count, config.rows),), config, how, s_ptr=s, t_ptr=t, row_s_ptr=student.sizes[row],
            row_t_ptr=teacher.sizes[row], size_s_ptr=student.sizes, size_t_ptr=teacher.sizes, mean_s_ptr=student.mean,
            mean_t_ptr=teacher.mean, value_ptr=value[row], slope_s_ptr=slope_s[row], slope_t_ptr=slope_t[row],
            first=row.start, n=count, m=n, WS=needs[0], WT=needs[1], LEAST=LEAST, TINY=how.tiny,
        )  # fmt: skip
        for side, weights in ((student, s), (teacher, t)):
            if side.needed:
                side.add(side.fixed, weights, row)
    return value.sum() / n**2, (
        student.gradient(slope_s, 1.0) if needs[0] else None,
        teacher.gradient(slope_t, -1.0) if needs[1] else None,
    )


kernel_rule("triton/rkd_distance", _gradients, reference.rkd_distance)


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean smooth-L1 difference of relative distances: ``reference.rkd_distance``."""
    fit(student, teacher)
    return apply("triton/rkd_distance", (), *node_blocks.one_type(student, teacher))
