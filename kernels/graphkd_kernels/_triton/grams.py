"""Gram matrices of columns, Z'Z over blocks of rows, what edge sums make of them, and products of rows with the result.

With Z = [U V] or [S T], ||S S' - T T'||^2 and its gradient need Z'Z only: 8 N D^2 operations, nothing N x N.
The same with a batch of channel graphs, C x C over P positions: rows are channels, columns positions (the dual form).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton.configs import pick, square
from graphkd_kernels._triton.launch import Config, Math, empty, launch
from graphkd_kernels._triton.terms import multiply, store_terms, terms_dot
from graphkd_kernels._triton.tiles import COUNTS, add_up, triangle, upper_tile

SPLIT = 4096  # rows summed in float32; what is above is summed in float64
PARTIALS = 2**28
"""Bytes of partial sums that are there together."""


@triton.jit(do_not_specialize=COUNTS)
def gram_kernel(
    z_ptr, out_ptr, n, k, tiles, per_batch, split_rows, splits, z_step, z_batch, z_row, TERMS: tl.constexpr,
    ROWS: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Z'Z over each block of split_rows rows: (TERMS, b, n, k) to out (b, splits, k, k), on and above the diagonal."""
    pid, split = tl.program_id(0), tl.program_id(1)
    batch, index = (pid // per_batch).to(tl.int64), pid % per_batch
    i, j, fresh = upper_tile(index, tiles)
    if fresh:
        a, b = i * ROWS + tl.arange(0, ROWS), j * ROWS + tl.arange(0, ROWS)
        z_ptr += batch * z_batch
        step = tl.cast(z_step, tl.int64)  # twice as much may pass 2**31
        total = tl.zeros([ROWS, ROWS], SUMS)
        end = tl.minimum((split + 1) * split_rows, n)
        for start in range(split * split_rows, end, BK):
            total = terms_dot(
                z_ptr, z_ptr, a, start + tl.arange(0, BK), b, k, k, end, end, step, step, 1, z_row, z_row, 1, total,
                TERMS, TERMS, PRECISION, UPCAST,
            )  # fmt: skip
        keep = (a < k)[:, None] & (b < k)[None, :]
        place = ((batch * splits + split) * k + a)[:, None] * k + b[None, :]
        tl.store(out_ptr + place, total, mask=keep)


@triton.jit
def entry(g_ptr, splits, k, a, b, keep):
    """Entries (a, b) of a symmetric matrix known in its upper half, summed over the splits in order in float64."""
    at = tl.minimum(a, b).to(tl.int64) * k + tl.maximum(a, b)
    total = tl.zeros(keep.shape, tl.float64)
    for _ in range(splits):
        total += tl.load(g_ptr + at, mask=keep, other=0.0).to(tl.float64)
        at += tl.cast(k, tl.int64) * k  # k * k may pass 2**31
    return total


@triton.jit(do_not_specialize=COUNTS)
def combine_kernel(
    x_ptr, y_ptr, m_ptr, out_ptr, count_ptr, value_ptr, k, out_width, m_step, half, tiles, splits_x, splits_y, factor,
    UV: tl.constexpr, SAME: tl.constexpr, TERMS: tl.constexpr, ROWS: tl.constexpr,
    UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """<Gx, J Gy J>, and M with which Z_x M is a gradient, both from Gram matrices (b, splits, k, k).

    UV: Z = [U V], J swaps the halves, columns of M are S = (U + V) / sqrt(2), then T = (U - V) / sqrt(2).
    Otherwise Z = [S T] with ``half`` columns of S, J changes the sign of those of T, and M = J Gy.
    M (TERMS, b, k, out_width) is written where m_ptr is given; factor scales its columns, with the opposite sign for T.
    """
    pid = tl.program_id(0)
    batch, index = (pid // (tiles * tiles)).to(tl.int64), pid % (tiles * tiles)
    a = ((index // tiles) * ROWS + tl.arange(0, ROWS))[:, None]
    b = ((index % tiles) * ROWS + tl.arange(0, ROWS))[None, :]
    keep = (a < k) & (b < k)
    x_ptr += batch * splits_x * k * k
    y_ptr += batch * splits_y * k * k
    gx = entry(x_ptr, splits_x, k, a, b, keep)
    if UV:
        swapped, left = tl.where(a < half, a + half, a - half), tl.where(b < half, b, b - half)
        of_u = entry(y_ptr, splits_y, k, swapped, left, keep)
        of_v = entry(y_ptr, splits_y, k, swapped, left + half, keep)
        gy = tl.where(b < half, of_v, of_u)
    else:
        gy = gx if SAME else entry(y_ptr, splits_y, k, a, b, keep)
        gy = tl.where((a < half) == (b < half), gy, -gy)
    add_up(out_ptr, count_ptr, value_ptr, pid, tl.sum(gx * gy), tl.num_programs(0))
    if m_ptr is not None:
        keep &= b < out_width
        value = gy
        if UV:
            value = tl.where(b < half, of_u + of_v, of_v - of_u) * 0.7071067811865476
        place = (batch * k + a) * out_width + b
        store_terms(m_ptr, place, m_step, (value * factor).to(SUMS), keep, TERMS, UPCAST)


def split_rows(n: int, programs: int, depth: int) -> int:
    """Rows that a program sums, where each part of the rows takes so many programs.

    As many waves of 132 programs take least, each of them its steps and 4 more to begin and end; parts of at most SPLIT
    rows. A function of the shape alone, so results repeat.
    """

    def time(parts: int) -> int:
        return -(-programs * parts // 132) * (-(-n // (parts * depth)) + 4)

    least = max(1, -(-n // SPLIT))
    most = max(least, min(n // (4 * depth), least + 4 * 132 // programs))
    parts = min(range(least, most + 1), key=time)
    return max(1, -(-n // (parts * depth))) * depth


def gram(z: Tensor, math: Math) -> Tensor:
    """Z'Z in blocks of rows.

    Shapes: (terms, b, n, k), columns of stride 1 -> (b, splits, k, k), of which only the upper half is written. Large
    ones come as one sum in float64, so that what reads them reads them once.
    """
    (_, b, n, k), config = z.shape, pick("gram", math, z.device)
    tiles = triton.cdiv(k, config.rows)
    per_batch, rows = triangle(tiles), split_rows(n, b * triangle(tiles), config.depth)
    size = b * k * k * math.sums.itemsize
    if triton.cdiv(n, rows) * size <= PARTIALS // 16:
        return _partial(z, rows, tiles, per_batch, config, math)
    step, total = rows * max(1, PARTIALS // size), None
    for start in range(0, n, step):
        part = _partial(z[:, :, start : start + step], rows, tiles, per_batch, config, math)
        found = part.sum(1, keepdim=True, dtype=torch.float64) if part.shape[1] > 1 or step < n else part
        total = found if total is None else total.add_(found)
    assert total is not None
    return total


def _partial(z: Tensor, rows: int, tiles: int, per_batch: int, config: Config, math: Math) -> Tensor:
    _, b, n, k = z.shape
    splits = triton.cdiv(n, rows)
    out = empty((b, splits, k, k), math.sums, z.device)
    launch(
        gram_kernel, (b * per_batch, splits), config, math, z_ptr=z, out_ptr=out, n=n, k=k, tiles=tiles,
        per_batch=per_batch, split_rows=rows, splits=splits, z_step=z.stride(0), z_batch=z.stride(1),
        z_row=z.stride(2),
    )  # fmt: skip
    return out


def combine(
    x: Tensor, y: Tensor, half: int, uv: bool, math: Math, count: Tensor, width: int = 0, factor: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """The sum <Gx, J Gy J> (), and M (terms, b, k, width) unless width is 0; see the kernel, and ``tiles.last``."""
    (b, splits_x, k, _), config = x.shape, square(32)
    tiles = triton.cdiv(k, config.rows)
    out, value = empty((b * tiles * tiles,), torch.float64, x.device), empty((), math.sums, x.device)
    m = empty((math.terms, b, k, width), math.storage, x.device) if width else None
    launch(
        combine_kernel, (b * tiles * tiles,), config, math, x_ptr=x, y_ptr=y, m_ptr=m, out_ptr=out,
        count_ptr=count, value_ptr=value, k=k, out_width=width, m_step=0 if m is None else m.stride(0), half=half,
        tiles=tiles, splits_x=splits_x, splits_y=y.shape[1], factor=factor, UV=uv, SAME=x is y,
    )  # fmt: skip
    if not len(out):  # no launch
        value.zero_()
    return value, m


def product(z: Tensor, m: Tensor, math: Math) -> Tensor:
    """z @ m in the precision of the sums. Shapes: (terms, b, n, k), (terms, b, k, d) -> (b, n, d)."""
    (_, b, n, _), d = z.shape, m.shape[-1]
    out = empty((1, b, n, d), math.sums, z.device)
    multiply(z, m, out, pick("terms_product", math, z.device, out.numel()), math)
    return out[0]
