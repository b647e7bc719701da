"""``rkd_distance``: distances of all pairs relative to their mean, in two sweeps over blocks of products (``terms``).

The first sums the distances, and the gradient of that sum; with both means known, the second makes the value, the
gradient at fixed means, and the derivative in the student's mean: dL/dx = G1 - kappa G2 (kernels/README.md). Products
of few nodes stay from the first sweep to the second.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import interpreting, node_blocks
from graphkd_kernels._triton.configs import long_rows, math
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.node_blocks import NodeProducts
from graphkd_kernels._triton.terms import store_terms, terms_of
from graphkd_kernels._triton.tiles import COUNTS, huber_slope, load
from graphkd_kernels.autograd import Found, Maybe, Needs, apply
from graphkd_kernels.precision import wide, widened

__all__ = ["rkd_distance"]
LEAST = 1e-12  # of squared distances off the diagonal, as RKD has it
KEPT = 2**26
"""Products of one network that stay: 256 MB."""


@triton.jit
def _distance(ptr, row_size, size_ptr, row, column, first, n, m, p_row, LEAST: tl.constexpr, TINY: tl.constexpr):
    """Distances of a tile, 0 on the diagonal and outside, and 1 / distance, which is 0 where no gradient passes."""
    product = load(ptr, row, column, n, m, p_row)
    column_size = tl.load(size_ptr + column, mask=column < m, other=0.0)
    sizes = row_size[:, None] + column_size[None, :]
    square = sizes - 2.0 * product
    none = (first + row[:, None] == column[None, :]) | (column >= m)[None, :] | (row >= n)[:, None]
    flat = none | (square <= TINY * sizes) | (square < LEAST)  # a NaN is not, and passes
    length = tl.sqrt(tl.where(flat, LEAST, square))
    return tl.where(none, 0.0, length), tl.where(flat, 0.0, 1.0 / length)


@triton.jit(do_not_specialize=COUNTS)
def rkd_sum_kernel(
    p_ptr, row_ptr, size_ptr, sum_ptr, w_ptr, w_sum_ptr, first, n, m, p_row, w_row, w_step,
    WEIGHTS: tl.constexpr, TERMS: tl.constexpr, LEAST: tl.constexpr, TINY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Sums of the distances of rows first .. first + n to all m nodes.

    WEIGHTS: also their derivatives in x_i - x_j, as so many terms (0: as they are), and the rows' sums of those.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_size = tl.load(row_ptr + row, mask=row < n, other=0.0)
    total, weights = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        length, inverse = _distance(p_ptr, row_size, size_ptr, row, column, first, n, m, p_row, LEAST, TINY)
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
    s_ptr, t_ptr, row_s_ptr, row_t_ptr, size_s_ptr, size_t_ptr, mean_s_ptr, mean_t_ptr,
    value_ptr, slope_s_ptr, slope_t_ptr, ws_ptr, wt_ptr, ws_sum_ptr, wt_sum_ptr,
    first, n, m, s_row, t_row, w_row, w_step,
    WS: tl.constexpr, WT: tl.constexpr, TERMS_S: tl.constexpr, TERMS_T: tl.constexpr,
    LEAST: tl.constexpr, TINY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Rows' sums of smooth-L1 differences and of their slopes times either side's distances; weights as above."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_s = tl.load(row_s_ptr + row, mask=row < n, other=0.0)
    row_t = tl.load(row_t_ptr + row, mask=row < n, other=0.0)
    mean_s, mean_t = tl.load(mean_s_ptr), tl.load(mean_t_ptr)
    value, slope_s, slope_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    sum_s, sum_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        s, inverse_s = _distance(s_ptr, row_s, size_s_ptr, row, column, first, n, m, s_row, LEAST, TINY)
        t, inverse_t = _distance(t_ptr, row_t, size_t_ptr, row, column, first, n, m, t_row, LEAST, TINY)
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


class _Distances:
    """One network's nodes, the sum of its distances, and the parts of its gradient."""

    def __init__(self, x: Tensor, needed: bool) -> None:
        n, device, dtype = len(x), x.device, wide(x.dtype)
        self.x, self.needed, self.how = node_blocks.prepared(x, None, "euclidean")[0].contiguous(), needed, math(dtype)
        self.nodes = NodeProducts(self.x, None, (False, False), terms_of(x.dtype))
        self.own, self.kept = n**2 <= node_blocks.ENTRIES, list[Tensor]()
        self.sizes = self.x.to(dtype).square().sum(-1)
        self.of_mean, self.fixed = empty((n, x.shape[1]), dtype, device), empty((n, x.shape[1]), dtype, device)
        config, sums = long_rows(n, dtype, device), empty((n,), dtype, device)
        for index, (_, row) in enumerate(node_blocks.blocks(1, n, n)):
            block, count = self.products(index, row), row.stop - row.start
            if self.own:  # sizes from the same product as the rest
                self.sizes = block.diagonal().contiguous()
            w, w_sum = self.weights(block)
            w_row, w_step = (0, 0) if w is None else (w.stride(2), w.stride(0))
            launch(
                rkd_sum_kernel, (triton.cdiv(count, config.rows),), config, self.how, p_ptr=block,
                row_ptr=self.sizes[row], size_ptr=self.sizes, sum_ptr=sums[row], w_ptr=w, w_sum_ptr=w_sum,
                first=row.start, n=count, m=n, p_row=block.stride(0), w_row=w_row, w_step=w_step, WEIGHTS=needed,
                TERMS=self.nodes.terms, LEAST=LEAST, TINY=self.how.tiny, UPCAST=interpreting(),
            )  # fmt: skip
            self.pull(self.of_mean, w, w_sum, row)
        mean = sums.sum() / max(n * (n - 1), 1)
        self.mean = torch.where(mean == 0, 1.0, mean)

    def products(self, index: int, row: slice) -> Tensor:
        """Products of some rows with all; those of the first sweep where there are few."""
        if index < len(self.kept):
            return self.kept[index]
        block = self.nodes.products(slice(0, 1), row)[0]
        if len(self.x) ** 2 <= KEPT:
            self.kept.append(block)
        return block

    def weights(self, block: Tensor) -> tuple[Maybe, Maybe]:
        """Where the weights of a block go, and the sums of their rows."""
        if not self.needed:
            return None, None
        return self.nodes.weights(block.unsqueeze(0)), empty((len(block),), block.dtype, block.device)

    def pull(self, target: Tensor, weights: Maybe, sums: Maybe, row: slice) -> None:
        """sum_j w_ij (x_i - x_j) of some rows."""
        if weights is not None and sums is not None:
            torch.sub(self.x[row] * sums.unsqueeze(-1), self.nodes.times(weights, slice(0, 1))[0], out=target[row])

    def gradient(self, slopes: Tensor, sign: float) -> Tensor:
        """Of the mean smooth-L1 difference, from the rows' slopes in the mean; 2 for both orientations of a pair."""
        n = len(self.x)
        shift = slopes.sum() / (self.mean.square() * (n**2 * max(n * (n - 1), 1)))
        return self.fixed.mul_(2 / (n**2 * self.mean)).sub_(self.of_mean.mul_(2 * sign * shift))


def _gradients(needs: Needs, x: Tensor, y: Tensor) -> Found:
    """Two sweeps; value and gradients together."""
    n, student, teacher = len(x), _Distances(x, needs[0]), _Distances(y, needs[1])
    how = student.how
    value, slope_s, slope_t = (empty((n,), how.sums, x.device) for _ in range(3))
    config = long_rows(n, how.sums, x.device, 4096)  # larger tiles spill
    for index, (_, row) in enumerate(node_blocks.blocks(1, n, n)):
        s, t, count = student.products(index, row), teacher.products(index, row), row.stop - row.start
        (ws, s_sum), (wt, t_sum) = student.weights(s), teacher.weights(t)
        some = next((each for each in (ws, wt) if each is not None), s[None, None])
        launch(
            rkd_kernel, (triton.cdiv(count, config.rows),), config, how, s_ptr=s, t_ptr=t, row_s_ptr=student.sizes[row],
            row_t_ptr=teacher.sizes[row], size_s_ptr=student.sizes, size_t_ptr=teacher.sizes, mean_s_ptr=student.mean,
            mean_t_ptr=teacher.mean, value_ptr=value[row], slope_s_ptr=slope_s[row], slope_t_ptr=slope_t[row],
            ws_ptr=ws, wt_ptr=wt, ws_sum_ptr=s_sum, wt_sum_ptr=t_sum, first=row.start, n=count, m=n, s_row=s.stride(0),
            t_row=t.stride(0), w_row=some.stride(2), w_step=some.stride(0), WS=needs[0], WT=needs[1],
            TERMS_S=student.nodes.terms, TERMS_T=teacher.nodes.terms, LEAST=LEAST, TINY=how.tiny,
            UPCAST=interpreting(),
        )  # fmt: skip
        student.pull(student.fixed, ws, s_sum, row)
        teacher.pull(teacher.fixed, wt, t_sum, row)
    return value.sum() / n**2, (
        student.gradient(slope_s, 1.0) if needs[0] else None,
        teacher.gradient(slope_t, -1.0) if needs[1] else None,
    )


kernel_rule("triton/rkd_distance", _gradients, widened(reference.rkd_distance))


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean smooth-L1 difference of relative distances: ``reference.rkd_distance``."""
    fit(student, teacher)
    (s, _), (t, _) = node_blocks.one_precision(student, None, teacher, None)
    assert s is not None
    assert t is not None
    return apply("triton/rkd_distance", (), s, t)
