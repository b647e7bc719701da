"""Gram matrices of columns, Z'Z over blocks of rows, what edge sums make of them, and products of rows with the result.

With Z = [U V] or [S T], ||S S' - T T'||^2 and its gradient need Z'Z only: 8 N D^2 operations, nothing N x N.
The same with a batch of channel graphs, C x C over P positions: rows are channels, columns positions (the dual form).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton.configs import pick, square
from graphkd_kernels._triton.launch import Math, empty, launch
from graphkd_kernels._triton.tiles import COUNTS, dot, load, narrow, triangle, upper_tile
from graphkd_kernels.grams import symmetric

SPLIT = 4096  # rows summed in float32; what is above is summed in float64


@triton.jit(do_not_specialize=COUNTS)
def gram_kernel(
    z_ptr, out_ptr, n, k, tiles, per_batch, split_rows, splits, z_batch, z_row,
    ROWS: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Z'Z over each block of split_rows rows: (b, n, k) to out (b, splits, k, k), on and above the diagonal."""
    pid, split = tl.program_id(0), tl.program_id(1)
    batch, index = (pid // per_batch).to(tl.int64), pid % per_batch
    i, j, fresh = upper_tile(index, tiles)
    if fresh:
        a, b = i * ROWS + tl.arange(0, ROWS), j * ROWS + tl.arange(0, ROWS)
        z_ptr += batch * z_batch
        total = tl.zeros([ROWS, ROWS], SUMS)
        end = tl.minimum((split + 1) * split_rows, n)
        for start in range(split * split_rows, end, BK):
            row = start + tl.arange(0, BK)
            left, right = load(z_ptr, row, a, end, k, z_row), load(z_ptr, row, b, end, k, z_row)
            total = dot(left.T, right, total, PRECISION, UPCAST)
        keep = (a < k)[:, None] & (b < k)[None, :]
        place = ((batch * splits + split) * k + a)[:, None] * k + b[None, :]
        tl.store(out_ptr + place, total, mask=keep)


@triton.jit
def _entry(g_ptr, splits, k, a, b, keep):
    """Entries (a, b) of a symmetric matrix known in its upper half, summed over the splits in order in float64."""
    at = tl.minimum(a, b).to(tl.int64) * k + tl.maximum(a, b)
    total = tl.zeros(keep.shape, tl.float64)
    for _ in range(splits):
        total += tl.load(g_ptr + at, mask=keep, other=0.0).to(tl.float64)
        at += tl.cast(k, tl.int64) * k  # k * k may pass 2**31
    return total


@triton.jit(do_not_specialize=COUNTS)
def combine_kernel(
    x_ptr, y_ptr, m_ptr, out_ptr, k, out_width, half, tiles, splits_x, splits_y, factor,
    UV: tl.constexpr, SAME: tl.constexpr, ROWS: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """<Gx, J Gy J> in partial sums, and M with which Z_x M is a gradient, both from Gram matrices (b, splits, k, k).

    UV: Z = [U V], J swaps the halves, columns of M are S = (U + V) / sqrt(2), then T = (U - V) / sqrt(2).
    Otherwise Z = [S T] with ``half`` columns of S, J changes the sign of those of T, and M = J Gy.
    M (b, k, out_width) is written where m_ptr is given; factor scales its columns, with the opposite sign for T.
    """
    pid = tl.program_id(0)
    batch, index = (pid // (tiles * tiles)).to(tl.int64), pid % (tiles * tiles)
    a = ((index // tiles) * ROWS + tl.arange(0, ROWS))[:, None]
    b = ((index % tiles) * ROWS + tl.arange(0, ROWS))[None, :]
    keep = (a < k) & (b < k)
    x_ptr += batch * splits_x * k * k
    y_ptr += batch * splits_y * k * k
    gx = _entry(x_ptr, splits_x, k, a, b, keep)
    if UV:
        swap_a, swap_b = tl.where(a < half, a + half, a - half), tl.where(b < half, b + half, b - half)
        gy = _entry(y_ptr, splits_y, k, swap_a, swap_b, keep)
    else:
        swap_a, swap_b = a, b
        gy = gx if SAME else _entry(y_ptr, splits_y, k, a, b, keep)
        gy = tl.where((a < half) == (b < half), gy, -gy)
    tl.store(out_ptr + pid, tl.sum(gx * gy))
    if m_ptr is not None:
        keep &= b < out_width
        if UV:
            left = _entry(y_ptr, splits_y, k, swap_a, tl.where(b < half, b, b - half), keep)
            right = _entry(y_ptr, splits_y, k, swap_a, tl.where(b < half, b + half, b), keep)
            value = tl.where(b < half, left + right, right - left) * 0.7071067811865476
        else:
            value = gy
        place = (batch * k + a) * out_width + b
        value = (value * factor).to(SUMS)
        tl.store(m_ptr + place, narrow(value, m_ptr.dtype.element_ty, UPCAST), mask=keep)


@triton.jit(do_not_specialize=COUNTS)
def product_kernel(
    z_ptr, m_ptr, out_ptr, n, k, d, tiles_n, tiles_d, z_batch, z_row, m_batch, m_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """z (b, n, k) @ m (b, k, d) to out (b, n, d), in the precision of the sums."""
    pid = tl.program_id(0)
    batch, index = (pid // (tiles_n * tiles_d)).to(tl.int64), pid % (tiles_n * tiles_d)
    row, col = (index // tiles_d) * ROWS + tl.arange(0, ROWS), (index % tiles_d) * COLUMNS + tl.arange(0, COLUMNS)
    z_ptr, m_ptr = z_ptr + batch * z_batch, m_ptr + batch * m_batch
    total = tl.zeros([ROWS, COLUMNS], SUMS)
    for start in range(0, k, BK):
        at = start + tl.arange(0, BK)
        total = dot(load(z_ptr, row, at, n, k, z_row), load(m_ptr, at, col, k, d, m_row), total, PRECISION, UPCAST)
    keep = (row < n)[:, None] & (col < d)[None, :]
    tl.store(out_ptr + (batch * n + row)[:, None] * d + col[None, :], total, mask=keep)


def gram(z: Tensor, math: Math) -> Tensor:
    """Z'Z in blocks of rows.

    Shapes: (b, n, k), columns of stride 1 -> (b, splits, k, k), of which only the upper half is written.
    """
    (b, n, k), config = z.shape, pick("gram", math, z.device)
    tiles = triton.cdiv(k, config.rows)
    per_batch = triangle(tiles)
    # Enough programs to fill a device where the matrix has few tiles; a function of the shape alone, so results repeat.
    wanted = max(triton.cdiv(n, SPLIT), min(triton.cdiv(n, 4 * config.depth), triton.cdiv(132, b * per_batch)))
    rows = max(1, triton.cdiv(triton.cdiv(n, wanted), config.depth)) * config.depth if n else config.depth
    splits = triton.cdiv(n, rows)
    out = empty((b, splits, k, k), math.sums, z.device)
    launch(
        gram_kernel, (b * per_batch, splits), config, math, z_ptr=z, out_ptr=out, n=n, k=k, tiles=tiles,
        per_batch=per_batch, split_rows=rows, splits=splits, z_batch=z.stride(0), z_row=z.stride(1),
    )  # fmt: skip
    return out


def whole(gram: Tensor) -> Tensor:
    """The symmetric matrix (b, k, k) in float64 of which the splits' upper halves are there (b, splits, k, k)."""
    return symmetric(gram.sum(1, dtype=torch.float64))


def combine(
    x: Tensor, y: Tensor, half: int, uv: bool, math: Math, width: int = 0, factor: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """The sum <Gx, J Gy J> () in float64, and M (b, k, width) unless width is 0; see the kernel."""
    (b, splits_x, k, _), config = x.shape, square(32)
    tiles = triton.cdiv(k, config.rows)
    out = empty((b * tiles * tiles,), torch.float64, x.device)
    m = empty((b, k, width), math.storage, x.device) if width else None
    launch(
        combine_kernel, (b * tiles * tiles,), config, math, x_ptr=x, y_ptr=y, m_ptr=m, out_ptr=out, k=k,
        out_width=width, half=half, tiles=tiles, splits_x=splits_x, splits_y=y.shape[1], factor=factor, UV=uv,
        SAME=x is y,
    )  # fmt: skip
    return out.sum(), m


def product(z: Tensor, m: Tensor, math: Math) -> Tensor:
    """z @ m in the precision of the sums. Shapes: (b, n, k), (b, k, d), columns of stride 1 -> (b, n, d)."""
    (b, n, k), d = z.shape, m.shape[-1]
    config = pick("product", math, z.device)
    tiles_n, tiles_d = triton.cdiv(n, config.rows), triton.cdiv(d, config.columns)
    out = empty((b, n, d), math.sums, z.device)
    launch(
        product_kernel, (b * tiles_n * tiles_d,), config, math, z_ptr=z, m_ptr=m, out_ptr=out, n=n, k=k, d=d,
        tiles_n=tiles_n, tiles_d=tiles_d, z_batch=z.stride(0), z_row=z.stride(1), m_batch=m.stride(0),
        m_row=m.stride(1),
    )  # fmt: skip
    return out
