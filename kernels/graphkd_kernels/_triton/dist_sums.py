"""``dist_sums``: DIST from class scores. Probabilities are made where they are needed and never written.

Three launches: norms, correlations and sums of rows; means and centred sums of the columns of blocks of rows; their
merge, in which the program that arrives last adds up both sums. One launch for the gradient p (g - <p, g>) / T with
g = -u_1 (a_i y - b_i x) - u_2 (a_c y' - b_c x'), x and y centred in their row, x' and y' in their column, and
the factors a and b of ``row_pearson``.
"""

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton.configs import long_rows, math, power
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import Config, arch, empty, launch
from graphkd_kernels._triton.node_blocks import common
from graphkd_kernels._triton.row_kl import LOG2E, gradients_like, matrices
from graphkd_kernels._triton.row_pearson import coefficients, merged, store_six
from graphkd_kernels._triton.tiles import COUNTS, added, exact, last, load
from graphkd_kernels.autograd import Found, Kept, Needs, apply
from graphkd_kernels.precision import wide, widened

__all__ = ["dist_sums"]


@triton.jit
def _powers(ptr, row, column, n, m, stride, scale, top, SUMS: tl.constexpr):
    """2^(scale (z - top)) of scores z; 0 beyond the last class. The difference first: nearly equal scores stay so."""
    z = load(ptr, row, column, n, m, stride).to(SUMS)
    return tl.exp2((tl.where((column < m)[None, :], z, float("-inf")) - top[:, None]) * scale)


@triton.jit
def _norms(ptr, row, n, m, stride, scale, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr):
    """Rows' maxima, and 1 / sum of their powers."""
    top, total = tl.full([ROWS], float("-inf"), SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        z = load(ptr, row, column, n, m, stride).to(SUMS)
        new = tl.maximum(top, tl.max(tl.where((column < m)[None, :], z, float("-inf")), 1))
        shift = tl.where(new == float("-inf"), 0.0, new)  # nothing finite was seen yet
        total = total * tl.exp2((top - shift) * scale)
        total += tl.sum(_powers(ptr, row, column, n, m, stride, scale, shift, SUMS), 1)
        top = new
    return top, 1.0 / total


@triton.jit
def _probabilities(ptr, row, column, n, m, stride, scale, top, share, SUMS: tl.constexpr):
    return _powers(ptr, row, column, n, m, stride, scale, top, SUMS) * share[:, None]


@triton.jit
def _load_norm(ptr, row, n):
    """Maxima and shares of rows, as (2, n)."""
    return tl.load(ptr + row, mask=row < n, other=0.0), tl.load(ptr + n + row, mask=row < n, other=0.0)


@triton.jit(do_not_specialize=COUNTS)
def dist_rows_kernel(
    s_ptr, t_ptr, norm_s_ptr, norm_t_ptr, out_ptr, part_ptr, count_ptr, n, m, s_row, t_row,
    scale: tl.float64, eps: tl.float64,
    TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Norms (2, n) and six numbers out (6, n) of rows, and a program's part of their sum; clears the count."""
    pid, scale = tl.program_id(0), exact(scale, SUMS)
    row = pid * ROWS + tl.arange(0, ROWS)
    keep = row < n
    top_s, share_s = _norms(s_ptr, row, n, m, s_row, scale, ROWS, COLUMNS, SUMS)
    top_t, share_t = _norms(t_ptr, row, n, m, t_row, scale, ROWS, COLUMNS, SUMS)
    tl.store(norm_s_ptr + row, top_s, mask=keep)
    tl.store(norm_s_ptr + n + row, share_s, mask=keep)
    tl.store(norm_t_ptr + row, top_t, mask=keep)
    tl.store(norm_t_ptr + n + row, share_t, mask=keep)
    xx, yy, xy = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    mean = 1.0 / exact(m, SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        there = (column < m)[None, :]
        x = _probabilities(s_ptr, row, column, n, m, s_row, scale, top_s, share_s, SUMS) - mean[:, None]
        y = _probabilities(t_ptr, row, column, n, m, t_row, scale, top_t, share_t, SUMS) - mean[:, None]
        x, y = tl.where(there, x, 0.0), tl.where(there, y, 0.0)
        xx += tl.sum(x * x, 1)
        yy += tl.sum(y * y, 1)
        xy += tl.sum(x * y, 1)
    value, a, b_x, b_y = coefficients(mean, mean, xx, yy, xy, m, exact(eps, SUMS), TINY)
    store_six(out_ptr, n, row, keep, value, value, value, a, b_x, b_y)
    tl.store(part_ptr + pid, tl.sum(tl.where(keep, 1.0 - value, 0.0).to(tl.float64), 0))
    tl.store(count_ptr, 0, mask=pid == 0)


@triton.jit(do_not_specialize=COUNTS)
def dist_columns_kernel(
    s_ptr, t_ptr, norm_s_ptr, norm_t_ptr, out_ptr, n, m, tiles, s_row, t_row, scale: tl.float64,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Means and centred sums out (blocks, 5, m) of the columns of each block of rows."""
    block, scale = tl.program_id(0) // tiles, exact(scale, SUMS)
    row, column = block * ROWS + tl.arange(0, ROWS), (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    keep = column < m
    top_s, share_s = _load_norm(norm_s_ptr, row, n)
    top_t, share_t = _load_norm(norm_t_ptr, row, n)
    inside, count = (row < n)[:, None], tl.minimum(n - block * ROWS, ROWS)
    x = tl.where(inside, _probabilities(s_ptr, row, column, n, m, s_row, scale, top_s, share_s, SUMS), 0.0)
    y = tl.where(inside, _probabilities(t_ptr, row, column, n, m, t_row, scale, top_t, share_t, SUMS), 0.0)
    mean_x, mean_y = tl.sum(x, 0) / count, tl.sum(y, 0) / count
    x, y = tl.where(inside, x - mean_x[None, :], 0.0), tl.where(inside, y - mean_y[None, :], 0.0)
    out = out_ptr + block.to(tl.int64) * 5 * m + column
    tl.store(out, mean_x, mask=keep)
    tl.store(out + m, mean_y, mask=keep)
    tl.store(out + 2 * m, tl.sum(x * x, 0), mask=keep)
    tl.store(out + 3 * m, tl.sum(y * y, 0), mask=keep)
    tl.store(out + 4 * m, tl.sum(x * y, 0), mask=keep)


@triton.jit(do_not_specialize=[*COUNTS, "parts"])
def dist_merge_kernel(
    block_ptr, out_ptr, part_ptr, count_ptr, value_ptr, n, m, blocks, parts, eps: tl.float64,
    TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Six numbers out (6, m) of whole columns from those of blocks of ROWS rows; the last program has both sums."""
    pid = tl.program_id(0)
    column = pid * COLUMNS + tl.arange(0, COLUMNS)
    keep = column < m
    mean_x, mean_y, xx, yy, xy = merged(block_ptr + column, keep, n, m, blocks, ROWS, COLUMNS, SUMS)
    value, a, b_x, b_y = coefficients(mean_x, mean_y, xx, yy, xy, n, exact(eps, SUMS), TINY)
    store_six(out_ptr, m, column, keep, value, mean_x, mean_y, a, b_x, b_y)
    tl.store(part_ptr + parts + pid, tl.sum(tl.where(keep, 1.0 - value, 0.0).to(tl.float64), 0))
    if last(count_ptr, tl.num_programs(0)):
        tl.store(value_ptr, added(part_ptr, parts))
        tl.store(value_ptr + 1, added(part_ptr + parts, tl.num_programs(0)))


@triton.jit
def _slopes(x, y, mean, mean_x, mean_y, a_row, b_row, a_column, b_column):
    """Gradient in x of both sums, times their upstream gradients in the factors."""
    rows = b_row[:, None] * (x - mean) - a_row[:, None] * (y - mean)
    return rows + b_column[None, :] * (x - mean_x[None, :]) - a_column[None, :] * (y - mean_y[None, :])


@triton.jit(do_not_specialize=COUNTS)
def dist_bwd_kernel(
    s_ptr, t_ptr, norm_s_ptr, norm_t_ptr, row_ptr, column_ptr, up_ptr, ds_ptr, dt_ptr, n, m, s_row, t_row,
    scale: tl.float64, temperature: tl.float64,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Gradients (n, m) of whole rows: once around for <p, g>, once to write."""
    scale, temperature = exact(scale, SUMS), exact(temperature, SUMS)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    keep = row < n
    top_s, share_s = _load_norm(norm_s_ptr, row, n)
    top_t, share_t = _load_norm(norm_t_ptr, row, n)
    up_rows = tl.load(up_ptr).to(SUMS) / temperature
    up_columns = tl.load(up_ptr + 1).to(SUMS) / temperature
    a_row = tl.load(row_ptr + 3 * n + row, mask=keep, other=0.0) * up_rows
    b_s = tl.load(row_ptr + 4 * n + row, mask=keep, other=0.0) * up_rows
    b_t = tl.load(row_ptr + 5 * n + row, mask=keep, other=0.0) * up_rows
    mean = 1.0 / exact(m, SUMS)[:, None]
    along_s, along_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for sweep in tl.static_range(2):
        for start in range(0, m, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            there = column < m
            x = _probabilities(s_ptr, row, column, n, m, s_row, scale, top_s, share_s, SUMS)
            y = _probabilities(t_ptr, row, column, n, m, t_row, scale, top_t, share_t, SUMS)
            mean_x = tl.load(column_ptr + m + column, mask=there, other=0.0)
            mean_y = tl.load(column_ptr + 2 * m + column, mask=there, other=0.0)
            a_column = tl.load(column_ptr + 3 * m + column, mask=there, other=0.0) * up_columns
            out, live = row.to(tl.int64)[:, None] * m + column[None, :], keep[:, None] & there[None, :]
            if ds_ptr is not None:
                b = tl.load(column_ptr + 4 * m + column, mask=there, other=0.0) * up_columns
                g = _slopes(x, y, mean, mean_x, mean_y, a_row, b_s, a_column, b)
                if sweep == 0:
                    along_s += tl.sum(x * g, 1)
                else:
                    tl.store(ds_ptr + out, (x * (g - along_s[:, None])).to(ds_ptr.dtype.element_ty), mask=live)
            if dt_ptr is not None:
                b = tl.load(column_ptr + 5 * m + column, mask=there, other=0.0) * up_columns
                g = _slopes(y, x, mean, mean_y, mean_x, a_row, b_t, a_column, b)
                if sweep == 0:
                    along_t += tl.sum(y * g, 1)
                else:
                    tl.store(dt_ptr + out, (y * (g - along_t[:, None])).to(dt_ptr.dtype.element_ty), mask=live)


def _rows(m: int, dtype: torch.dtype, device: torch.device) -> Config:
    if dtype == torch.float64:  # more spills
        return replace(long_rows(m, dtype, device, 4096), warps=4)
    return long_rows(m, dtype, device)


def _gradients(needs: Needs, student: Tensor, teacher: Tensor, temperature: float, eps: float) -> Found:
    """Both sums; norms, and six numbers for each row and column."""
    (s, t), dtype, device = matrices(student, teacher), wide(common(student, teacher)), student.device
    (_, n, m), how, tiny = s.shape, math(dtype), 4 * torch.finfo(dtype).eps
    config = _rows(m, dtype, device)
    # A tile of both matrices in registers: 64 rows, so that few partial sums are merged, of columns that do not spill.
    tile = Config(64, power(m, 64 if dtype == torch.float32 else 16) if arch(device) else 64, 1, 4, 1)
    rows, blocks, tiles = triton.cdiv(n, config.rows), triton.cdiv(n, tile.rows), triton.cdiv(m, tile.columns)
    norm_s, norm_t, of_rows, of_columns = (empty(shape, dtype, device) for shape in ((2, n), (2, n), (6, n), (6, m)))
    parts, count = empty((rows + tiles,), torch.float64, device), empty((1,), torch.int32, device)
    of_blocks, value = empty((blocks, 5, m), dtype, device), empty((2,), dtype, device)
    scores = {
        "s_ptr": s, "t_ptr": t, "norm_s_ptr": norm_s, "norm_t_ptr": norm_t, "n": n, "m": m, "s_row": s.stride(1),
        "t_row": t.stride(1), "scale": LOG2E / temperature,
    }  # fmt: skip
    launch(
        dist_rows_kernel, (rows,), config, how, **scores, out_ptr=of_rows, part_ptr=parts, count_ptr=count, eps=eps,
        TINY=tiny,
    )  # fmt: skip
    launch(dist_columns_kernel, (blocks * tiles,), tile, how, **scores, out_ptr=of_blocks, tiles=tiles)
    launch(
        dist_merge_kernel, (tiles,), tile, how, block_ptr=of_blocks, out_ptr=of_columns, part_ptr=parts,
        count_ptr=count, value_ptr=value, n=n, m=m, blocks=blocks, parts=rows, eps=eps, TINY=tiny,
    )  # fmt: skip
    return value, (norm_s, norm_t, of_rows, of_columns)


def _finish(
    needs: Needs,
    upstream: Tensor,
    tensors: tuple[Tensor, Tensor],
    kept: tuple[Tensor, Tensor, Tensor, Tensor],
    temperature: float,
    eps: float,
) -> Kept:
    (s, t), (norm_s, norm_t, of_rows, of_columns), out = matrices(*tensors), kept, gradients_like(*tensors, needs)
    (_, n, m), dtype = s.shape, norm_s.dtype
    config = _rows(m, dtype, s.device)
    launch(
        dist_bwd_kernel, (triton.cdiv(n, config.rows),), config, math(dtype), s_ptr=s, t_ptr=t, norm_s_ptr=norm_s,
        norm_t_ptr=norm_t, row_ptr=of_rows, column_ptr=of_columns, up_ptr=upstream.contiguous(), ds_ptr=out[0],
        dt_ptr=out[1], n=n, m=m, s_row=s.stride(1), t_row=t.stride(1), scale=LOG2E / temperature,
        temperature=float(temperature),
    )  # fmt: skip
    return tuple(out)


kernel_rule(
    "triton/dist_sums",
    _gradients,
    widened(reference.dist_sums),
    finish=_finish,
    compiled="formula",
    empty=lambda s, t, *_: s.new_empty(2, dtype=wide(common(s, t))),
)


def dist_sums(student: Tensor, teacher: Tensor, temperature: float = 1.0, eps: float = 1e-8) -> Tensor:
    """DIST's sums over samples and over classes, (2,): ``reference.dist_sums``."""
    fit(student, teacher)
    return apply("triton/dist_sums", (float(temperature), float(eps)), student, teacher)
