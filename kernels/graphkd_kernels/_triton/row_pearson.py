"""``row_pearson``, ``damped_row_pearson`` and ``damped_column_pearson`` (DIST): numbers are read from
memory once, and once more for the gradient.

Numbers are taken relative to the first of their row or column, so that the rounding of a mean is not that of an offset.
With centred x and y, c = M_xy / (sqrt(M_xx M_yy) + eps) and its gradient is up * (a y - b x). Columns are not
transposed: programs make mean and centred sums of a block of rows, which a second launch merges in their order
(Chan et al.).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton.configs import long_rows, math, power, short_tile
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import Config, arch, empty, launch
from graphkd_kernels._triton.node_blocks import common
from graphkd_kernels._triton.row_kl import gradients_like, matrices, one_per_row, stepped
from graphkd_kernels._triton.tiles import COUNTS, block_of, exact, load
from graphkd_kernels.autograd import Found, Kept, Needs, apply
from graphkd_kernels.precision import wide, widened

__all__ = ["damped_column_pearson", "damped_row_pearson", "row_pearson"]


@triton.jit
def _from_first(ptr, first, row, column, n, m, stride, SUMS: tl.constexpr):
    """Entries minus the first of their row or column, 0 outside."""
    inside = (row < n)[:, None] & (column < m)[None, :]
    return tl.where(inside, load(ptr, row, column, n, m, stride).to(SUMS) - first, 0.0)


@triton.jit
def coefficients(mean_x, mean_y, xx, yy, xy, count, eps, TINY: tl.constexpr):
    """Correlation and the coefficients a, b_x, b_y of its gradient; 0 where a side is constant, relative to itself.

    Where a sum of squares overflows all of them are NaN, never a wrong number.
    """
    LARGEST: tl.constexpr = 3e38 if xx.dtype == tl.float32 else 1e308
    x, y = tl.sqrt(xx), tl.sqrt(yy)
    size_x = tl.sqrt(tl.minimum(xx + count * mean_x * mean_x, LARGEST))
    size_y = tl.sqrt(tl.minimum(yy + count * mean_y * mean_y, LARGEST))
    dead = (x <= TINY * size_x) | (y <= TINY * size_y)
    x, y = tl.where(dead, 1.0, x), tl.where(dead, 1.0, y)
    a = tl.where(x * y < float("inf"), 1.0 / (x * y + eps), float("nan"))
    value = tl.where(dead, 0.0, xy * a)
    return value, tl.where(dead, 0.0, a), value * a * y / x, value * a * x / y


@triton.jit
def store_six(base, step, place, keep, value, mean_x, mean_y, a, b_x, b_y):
    """Six numbers of some rows or columns, one array after the other."""
    tl.store(base + place, value, mask=keep)
    tl.store(base + step + place, mean_x, mask=keep)
    tl.store(base + 2 * step + place, mean_y, mask=keep)
    tl.store(base + 3 * step + place, a, mask=keep)
    tl.store(base + 4 * step + place, b_x, mask=keep)
    tl.store(base + 5 * step + place, b_y, mask=keep)


@triton.jit(do_not_specialize=COUNTS)
def pearson_rows_kernel(
    x_ptr, y_ptr, out_ptr, n, m, tiles, x_batch, y_batch, x_row, y_row, eps: tl.float64,
    TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Statistics out (6, b, n) of rows of x and y (b, n, m); a block is read again from the cache."""
    graph, row = block_of(tiles, ROWS)
    x_ptr, y_ptr = x_ptr + graph * x_batch, y_ptr + graph * y_batch
    keep = row < n
    first_x = tl.load(x_ptr + row.to(tl.int64) * x_row, mask=keep, other=0.0).to(SUMS)
    first_y = tl.load(y_ptr + row.to(tl.int64) * y_row, mask=keep, other=0.0).to(SUMS)
    mean_x, mean_y = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    xx, yy, xy = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        mean_x += tl.sum(_from_first(x_ptr, first_x[:, None], row, column, n, m, x_row, SUMS), 1)
        mean_y += tl.sum(_from_first(y_ptr, first_y[:, None], row, column, n, m, y_row, SUMS), 1)
    mean_x, mean_y = mean_x / m, mean_y / m
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = (column < m)[None, :]
        x = _from_first(x_ptr, first_x[:, None], row, column, n, m, x_row, SUMS) - mean_x[:, None]
        y = _from_first(y_ptr, first_y[:, None], row, column, n, m, y_row, SUMS) - mean_y[:, None]
        x, y = tl.where(inside, x, 0.0), tl.where(inside, y, 0.0)
        xx += tl.sum(x * x, 1)
        yy += tl.sum(y * y, 1)
        xy += tl.sum(x * y, 1)
    value, a, b_x, b_y = coefficients(first_x + mean_x, first_y + mean_y, xx, yy, xy, m, exact(eps, SUMS), TINY)
    step = (tl.num_programs(0) // tiles).to(tl.int64) * n
    store_six(out_ptr, step, graph * n + row, keep, value, mean_x, mean_y, a, b_x, b_y)


@triton.jit(do_not_specialize=COUNTS)
def pearson_parts_kernel(
    x_ptr, y_ptr, part_ptr, n, m, blocks, tiles, x_batch, y_batch, x_row, y_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Means and centred sums part (b, blocks, 5, m) of the columns of each block of rows."""
    graph = (tl.program_id(0) // (blocks * tiles)).to(tl.int64)
    block = (tl.program_id(0) // tiles) % blocks
    row, column = block * ROWS + tl.arange(0, ROWS), (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    x_ptr, y_ptr, keep = x_ptr + graph * x_batch, y_ptr + graph * y_batch, column < m
    first_x = tl.load(x_ptr + column, mask=keep, other=0.0).to(SUMS)
    first_y = tl.load(y_ptr + column, mask=keep, other=0.0).to(SUMS)
    x = _from_first(x_ptr, first_x[None, :], row, column, n, m, x_row, SUMS)
    y = _from_first(y_ptr, first_y[None, :], row, column, n, m, y_row, SUMS)
    inside, count = (row < n)[:, None], tl.minimum(n - block * ROWS, ROWS)
    mean_x, mean_y = tl.sum(x, 0) / count, tl.sum(y, 0) / count
    x, y = tl.where(inside, x - mean_x[None, :], 0.0), tl.where(inside, y - mean_y[None, :], 0.0)
    out = part_ptr + (graph * blocks + block) * 5 * m + column
    tl.store(out, mean_x, mask=keep)
    tl.store(out + m, mean_y, mask=keep)
    tl.store(out + 2 * m, tl.sum(x * x, 0), mask=keep)
    tl.store(out + 3 * m, tl.sum(y * y, 0), mask=keep)
    tl.store(out + 4 * m, tl.sum(x * y, 0), mask=keep)


@triton.jit
def merged(part_ptr, keep, n, m, blocks, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr):
    """Means and centred sums of whole columns from those of blocks of ROWS rows, in their order."""
    mean_x, mean_y = tl.zeros([COLUMNS], SUMS), tl.zeros([COLUMNS], SUMS)
    xx, yy, xy = tl.zeros([COLUMNS], SUMS), tl.zeros([COLUMNS], SUMS), tl.zeros([COLUMNS], SUMS)
    for block in range(blocks):
        part, before = part_ptr + tl.cast(block, tl.int64) * 5 * m, block * ROWS
        here = tl.minimum(n - before, ROWS)
        share = here.to(SUMS) / (before + here).to(SUMS)
        gap_x = tl.load(part, mask=keep, other=0.0) - mean_x
        gap_y = tl.load(part + m, mask=keep, other=0.0) - mean_y
        weight = share * before
        xx += tl.load(part + 2 * m, mask=keep, other=0.0) + gap_x * gap_x * weight
        yy += tl.load(part + 3 * m, mask=keep, other=0.0) + gap_y * gap_y * weight
        xy += tl.load(part + 4 * m, mask=keep, other=0.0) + gap_x * gap_y * weight
        mean_x += gap_x * share
        mean_y += gap_y * share
    return mean_x, mean_y, xx, yy, xy


@triton.jit(do_not_specialize=COUNTS)
def pearson_merge_kernel(
    x_ptr, y_ptr, part_ptr, out_ptr, n, m, blocks, tiles, x_batch, y_batch, eps: tl.float64,
    TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Statistics out (6, b, m) of whole columns from those of blocks of ROWS rows, merged in their order."""
    graph, column = block_of(tiles, COLUMNS)
    keep = column < m
    part_ptr += graph * blocks * 5 * m + column
    mean_x, mean_y, xx, yy, xy = merged(part_ptr, keep, n, m, blocks, ROWS, COLUMNS, SUMS)
    first_x = tl.load(x_ptr + graph * x_batch + column, mask=keep, other=0.0).to(SUMS)
    first_y = tl.load(y_ptr + graph * y_batch + column, mask=keep, other=0.0).to(SUMS)
    value, a, b_x, b_y = coefficients(first_x + mean_x, first_y + mean_y, xx, yy, xy, n, exact(eps, SUMS), TINY)
    step = (tl.num_programs(0) // tiles).to(tl.int64) * m
    store_six(out_ptr, step, graph * m + column, keep, value, mean_x, mean_y, a, b_x, b_y)


@triton.jit(do_not_specialize=COUNTS)
def pearson_bwd_kernel(
    x_ptr, y_ptr, stat_ptr, up_ptr, dx_ptr, dy_ptr, n, m, blocks, tiles, x_batch, y_batch, x_row, y_row, up_step,
    OF_ROWS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Gradients of x and y (b, n, m) from the statistics of rows (OF_ROWS) or columns and their upstream gradient."""
    graph = (tl.program_id(0) // (blocks * tiles)).to(tl.int64)
    row = ((tl.program_id(0) // tiles) % blocks) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    x_ptr, y_ptr = x_ptr + graph * x_batch, y_ptr + graph * y_batch
    if OF_ROWS:
        place, keep = (graph * n + row)[:, None], (row < n)[:, None]
        x_first, y_first = x_ptr + row.to(tl.int64)[:, None] * x_row, y_ptr + row.to(tl.int64)[:, None] * y_row
    else:
        place, keep = (graph * m + column)[None, :], (column < m)[None, :]
        x_first, y_first = x_ptr + column[None, :], y_ptr + column[None, :]
    up = tl.load(up_ptr + place * up_step, mask=keep, other=0.0).to(SUMS)
    step = (tl.num_programs(0) // (blocks * tiles)).to(tl.int64) * (n if OF_ROWS else m)
    mean_x = tl.load(stat_ptr + step + place, mask=keep, other=0.0)
    mean_y = tl.load(stat_ptr + 2 * step + place, mask=keep, other=0.0)
    a = tl.load(stat_ptr + 3 * step + place, mask=keep, other=0.0) * up
    x_first = tl.load(x_first, mask=keep, other=0.0).to(SUMS)
    y_first = tl.load(y_first, mask=keep, other=0.0).to(SUMS)
    x = load(x_ptr, row, column, n, m, x_row).to(SUMS) - x_first - mean_x
    y = load(y_ptr, row, column, n, m, y_row).to(SUMS) - y_first - mean_y
    inside = (row < n)[:, None] & (column < m)[None, :]
    out = graph * n * m + row.to(tl.int64)[:, None] * m + column[None, :]
    if dx_ptr is not None:
        b = tl.load(stat_ptr + 4 * step + place, mask=keep, other=0.0) * up
        tl.store(dx_ptr + out, (a * y - b * x).to(dx_ptr.dtype.element_ty), mask=inside)
    if dy_ptr is not None:
        b = tl.load(stat_ptr + 5 * step + place, mask=keep, other=0.0) * up
        tl.store(dy_ptr + out, (a * x - b * y).to(dy_ptr.dtype.element_ty), mask=inside)


def _strides(s: Tensor, t: Tensor) -> dict[str, Any]:
    return {
        "x_ptr": s, "y_ptr": t, "n": s.shape[1], "m": s.shape[2], "x_batch": s.stride(0), "y_batch": t.stride(0),
    }  # fmt: skip


def _of_rows(s: Tensor, t: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Six numbers for each row, (6, b, n)."""
    b, n, m = s.shape
    config, out = long_rows(m, dtype, s.device), empty((6, b, n), dtype, s.device)
    if dtype == torch.float64:  # of 8 warps, each spills with the assembler of Triton 3.6
        config = replace(config, warps=4)
    tiles = triton.cdiv(n, config.rows)
    launch(
        pearson_rows_kernel, (b * tiles,), config, math(dtype), **_strides(s, t), x_row=s.stride(1), y_row=t.stride(1),
        out_ptr=out, tiles=tiles, eps=eps, TINY=4 * torch.finfo(dtype).eps,
    )  # fmt: skip
    return out


def _of_columns(s: Tensor, t: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Six numbers for each column, (6, b, m), without a transposed copy."""
    b, n, m = s.shape
    # A tile of both matrices in registers: 64 rows of 64 columns, which also merges few partial sums.
    config, how = Config(64, power(m, 64) if arch(s.device) else 64, 1, 4, 1), math(dtype)
    blocks, tiles = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
    parts, out = empty((b, blocks, 5, m), dtype, s.device), empty((6, b, m), dtype, s.device)
    shared = _strides(s, t) | {"part_ptr": parts, "blocks": blocks, "tiles": tiles}
    rows = {"x_row": s.stride(1), "y_row": t.stride(1)}
    launch(pearson_parts_kernel, (b * blocks * tiles,), config, how, **shared, **rows)
    tiny = 4 * torch.finfo(dtype).eps
    launch(pearson_merge_kernel, (b * tiles,), config, how, **shared, out_ptr=out, eps=eps, TINY=tiny)
    return out


def _gradients(statistics: Callable[..., Tensor], needs: Needs, student: Tensor, teacher: Tensor, eps: float) -> Found:
    found = statistics(*matrices(student, teacher), eps, wide(common(student, teacher)))
    shape = student.shape[:-1] if statistics is _of_rows else one_per_column(student, teacher).shape
    return found[0].view(shape), (found,)


def _finish(
    of_rows: bool, needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: tuple[Tensor], eps: float
) -> Kept:
    (s, t), (found,) = matrices(*tensors), kept
    (b, n, m), out = s.shape, gradients_like(*tensors, needs)
    config, (up, up_step) = short_tile(m, found.dtype, s.device), stepped(upstream)
    blocks, tiles = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
    launch(
        pearson_bwd_kernel, (b * blocks * tiles,), config, math(found.dtype), **_strides(s, t), x_row=s.stride(1),
        y_row=t.stride(1), stat_ptr=found, up_ptr=up, up_step=up_step, dx_ptr=out[0], dy_ptr=out[1], blocks=blocks,
        tiles=tiles, OF_ROWS=of_rows,
    )  # fmt: skip
    return tuple(out)


def one_per_column(student: Tensor, teacher: Tensor, *options: Any) -> Tensor:
    """An empty value for each column, as the compiler sees it."""
    return student.new_empty((*student.shape[:-2], student.shape[-1]), dtype=wide(common(student, teacher)))


@widened
def _row_formula(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    return reference.damped_row_pearson(student, teacher, eps) if eps else reference.row_pearson(student, teacher)


kernel_rule(
    "triton/row_pearson",
    partial(_gradients, _of_rows),
    _row_formula,
    finish=partial(_finish, True),
    empty=one_per_row,
)
kernel_rule(
    "triton/column_pearson",
    partial(_gradients, _of_columns),
    widened(reference.damped_column_pearson),
    finish=partial(_finish, False),
    spread=lambda upstream, gradient: upstream.unsqueeze(-2),
    empty=one_per_column,
)


def row_pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """Correlation of each row of one matrix with the same row of the other: ``reference.row_pearson``."""
    return damped_row_pearson(student, teacher, 0.0)


def damped_row_pearson(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Correlation of rows with eps added to the denominator: ``reference.damped_row_pearson``."""
    fit(student, teacher)
    return apply("triton/row_pearson", (float(eps),), student, teacher)


def damped_column_pearson(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Correlation of columns with eps added to the denominator: ``reference.damped_column_pearson``."""
    fit(student, teacher)
    return apply("triton/column_pearson", (float(eps),), student, teacher)
