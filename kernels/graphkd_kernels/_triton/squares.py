"""Squared distances in the place of inner products, with the digits that close rows share.

|x|^2 + |y|^2 - 2 x.y loses them (kernels/README.md). A tile with a close pair is made again from the differences of the
rows themselves; others only pass through the cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton.configs import math
from graphkd_kernels._triton.launch import Config, arch, launch
from graphkd_kernels._triton.tiles import COUNTS, apart, load
from graphkd_kernels.precision import wide


@triton.jit
def settled(square, sizes, others, x_ptr, y_ptr, row, column, n, m, d, x_row, y_row, CLOSE: tl.constexpr):
    """A tile of squared distances, made again from differences if one of these ``others`` is close."""
    if tl.sum((others & (square < CLOSE * sizes)).to(tl.int32)) > 0:  # a NaN is not, and passes
        square = apart(x_ptr, y_ptr, row, column, n, m, d, x_row, y_row, square.dtype)
    return square


@triton.jit(do_not_specialize=[*COUNTS, "own"])
def squares_kernel(
    p_ptr, x_ptr, y_ptr, size_x_ptr, size_y_ptr, inverse_ptr, n, m, d, own, tiles_n, tiles_m,
    p_batch, p_row, x_batch, x_row, y_batch, y_row,
    CLOSE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Inner products p (b, n, m) of rows x and y to squared distances, in place; 0 for a row and itself.

    ``own``: the column of row 0 itself, negative for other nodes. Where there is a place for them, also 1 / distance,
    0 for equal rows.
    """
    batch, index = (tl.program_id(0) // (tiles_n * tiles_m)).to(tl.int64), tl.program_id(0) % (tiles_n * tiles_m)
    row, column = (index // tiles_m) * ROWS + tl.arange(0, ROWS), (index % tiles_m) * COLUMNS + tl.arange(0, COLUMNS)
    size_x = tl.load(size_x_ptr + batch * n + row, mask=row < n, other=0.0).to(SUMS)
    size_y = tl.load(size_y_ptr + batch * m + column, mask=column < m, other=0.0).to(SUMS)
    sizes = size_x[:, None] + size_y[None, :]
    square = sizes - 2.0 * load(p_ptr + batch * p_batch, row, column, n, m, p_row).to(SUMS)
    keep, itself = (row < n)[:, None] & (column < m)[None, :], (row + own)[:, None] == column[None, :]
    square = settled(
        square, sizes, keep & (itself == 0), x_ptr + batch * x_batch, y_ptr + batch * y_batch, row, column, n, m, d,
        x_row, y_row, CLOSE,
    )  # fmt: skip
    square = tl.where(itself, square - square, square)  # a NaN stays
    place = batch * p_batch + row.to(tl.int64)[:, None] * p_row + column[None, :]
    tl.store(p_ptr + place, square, mask=keep)
    if inverse_ptr is not None:
        equal = square <= 0.0
        tl.store(inverse_ptr + place, tl.where(equal, 0.0, 1.0 / tl.sqrt(tl.where(equal, 1.0, square))), mask=keep)


def to_squares(
    products: Tensor,
    x: Tensor,
    y: Tensor,
    sizes: tuple[Tensor, Tensor],
    own: int | None,
    inverses: Tensor | None = None,
) -> None:
    """Turn inner products into squared distances, in place.

    Args:
        products: of x (b, n, d) and y (b, m, d), rows of stride d; columns of stride 1.
        sizes: squared lengths of the rows, contiguous.
        own: the column of the first row itself, in a set with itself.
        inverses: gets 1 / distance; laid out as ``products``.
    """
    (b, n, m), dtype = products.shape, wide(products.dtype)
    config, how = Config(64, 64, 1, 4, 1), math(dtype)
    if arch(products.device):
        config = Config(64 if dtype == torch.float32 else 32, 32, 1, 8, 1)
    tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
    launch(
        squares_kernel, (b * tiles_n * tiles_m,), config, how, p_ptr=products, x_ptr=x, y_ptr=y,
        size_x_ptr=sizes[0], size_y_ptr=sizes[1], inverse_ptr=inverses, n=n, m=m, d=x.shape[2],
        own=-n - m if own is None else own, tiles_n=tiles_n, tiles_m=tiles_m, p_batch=products.stride(0),
        p_row=products.stride(1), x_batch=x.stride(0), x_row=x.stride(1), y_batch=y.stride(0), y_row=y.stride(1),
        CLOSE=how.close,
    )  # fmt: skip
