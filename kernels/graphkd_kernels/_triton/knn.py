"""``knn``: tiles of distances formed on chip, and the k nearest of each row kept there.

Keys are the bits of float32 distances: they are not negative, so their bits sort as they do, and NaN comes last. A row
takes from a tile only what is nearer than its farthest so far, one number in a pass over the tile; most tiles have
nothing for any of their rows and are left at once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import _blocked
from graphkd_kernels._triton import interpreting
from graphkd_kernels._triton.configs import MATHS, knn_tile, math
from graphkd_kernels._triton.kernel_rule import fit
from graphkd_kernels._triton.launch import Config, empty, launch
from graphkd_kernels._triton.node_blocks import prepared
from graphkd_kernels._triton.replay import repeated
from graphkd_kernels._triton.squares import settled
from graphkd_kernels._triton.terms import split, terms_dot, terms_of
from graphkd_kernels._triton.tiles import COUNTS
from graphkd_kernels.autograd import transformed
from graphkd_kernels.precision import wide, widen

__all__ = ["knn"]
MOST = 64
"""Neighbours that a program holds. More of them, or float64, go by blocks of vendor products."""
NONE = tl.constexpr(0x7FFFFFFF)  # above every distance, and above NaN


@triton.jit
def _keys(square, others):
    """Keys of a tile: the bits of squared distances; NONE for what is none of the ``others``."""
    bits = tl.where(square == square, square.to(tl.int32, bitcast=True), 0x7FC00000)
    return tl.where(others, bits, NONE)


@triton.jit
def _take(keys, low, column, best, index):
    """Each row's least key and the lowest of its columns in the place of the row's farthest, if it is nearer."""
    worst = tl.max(best, 1)
    at = tl.min(tl.where(keys == low[:, None], column[None, :], NONE), 1)
    farthest = tl.max(tl.where(best == worst[:, None], index, -1), 1)
    put = (best == worst[:, None]) & (index == farthest[:, None]) & (low < worst)[:, None]
    best, index = tl.where(put, low[:, None], best), tl.where(put, at[:, None], index)
    return tl.where((column[None, :] == at[:, None]) & (low < worst)[:, None], NONE, keys), best, index


@triton.jit(do_not_specialize=COUNTS)
def knn_kernel(
    x_ptr, row_ptr, size_ptr, out_ptr, n, d, k, part, x_step, x_row,
    TERMS: tl.constexpr, CLOSE: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """The k nearest other rows of each row of x (TERMS, n, d), at ``row_ptr`` whole, in each part of the rows, to out
    (n, parts, k).

    Nearest first, of equal distances the lower index: the bits of the squared distance above the index.
    """
    row, slot, x_step = (
        tl.program_id(0) * ROWS + tl.arange(0, ROWS),
        tl.arange(0, K)[None, :],
        tl.cast(x_step, tl.int64),
    )
    row_size = tl.load(size_ptr + row, mask=row < n, other=0.0)
    best = tl.zeros([ROWS, K], tl.int32) + tl.where(slot < k, NONE, -1)  # what is -1 is never the farthest
    index = tl.zeros([ROWS, K], tl.int32) + (NONE - slot)  # no two alike
    first = tl.program_id(1) * part
    last = tl.minimum(first + part, n)
    for start in range(first, last, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        product = tl.zeros([ROWS, COLUMNS], tl.float32)
        for depth in range(0, d, BK):
            at = depth + tl.arange(0, BK)
            product = terms_dot(
                x_ptr, x_ptr, row, at, column, n, n, d, d, x_step, x_step, d, 1, 1, d, product, TERMS, TERMS, PRECISION,
                UPCAST,
            )  # fmt: skip
        column_size = tl.load(size_ptr + column, mask=column < n, other=0.0)
        sizes = row_size[:, None] + column_size[None, :]
        others = (row[:, None] != column[None, :]) & (column < last)[None, :] & (row < n)[:, None]
        square = settled(
            sizes - 2.0 * product, sizes, others, row_ptr, row_ptr, row, column, n, n, x_row, x_row, x_row, CLOSE
        )
        keys = _keys(square, others)
        low = tl.min(keys, 1)
        while tl.max(tl.where(low < tl.max(best, 1), 1, 0), 0) > 0:
            keys, best, index = _take(keys, low, column, best, index)
            low = tl.min(keys, 1)
    best = tl.where(slot < k, best, NONE)
    found = tl.sort((best.to(tl.int64) << 32) | index.to(tl.int64), dim=1)
    place = (row.to(tl.int64)[:, None] * tl.num_programs(1) + tl.program_id(1)) * k + slot
    tl.store(out_ptr + place, found, mask=(row < n)[:, None] & (slot < k))


@triton.jit(do_not_specialize=["count"])
def knn_unpack_kernel(key_ptr, index_ptr, square_ptr, count, k, key_row, ROWS: tl.constexpr):
    """Sorted keys, the first k of each row, as indices and squared distances."""
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    keep = at < count
    key = tl.load(key_ptr + (at // k).to(tl.int64) * key_row + at % k, mask=keep, other=0)
    tl.store(index_ptr + at, key & 0xFFFFFFFF, mask=keep)
    tl.store(square_ptr + at, (key >> 32).to(tl.int32).to(tl.float32, bitcast=True), mask=keep)


def search(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k), without gradient."""
    rows = prepared(x, None, "euclidean")[0].contiguous()
    sizes, planes = rows.to(wide(x.dtype)).square().sum(-1), split(rows.unsqueeze(0), terms_of(x.dtype)).planes
    (terms, _, n, d), how = planes.shape, math(torch.float32)
    config = knn_tile(terms, k, x.device)
    tiles = triton.cdiv(n, config.rows)
    # Parts of the columns where there are few tiles of rows, each of 4 tiles at least; of the shape alone.
    parts = max(1, min(132 // max(tiles, 1), n // (4 * config.columns)))
    part = triton.cdiv(triton.cdiv(n, parts), config.columns) * config.columns
    found = empty((n, parts, k), torch.int64, x.device)
    launch(
        knn_kernel, (tiles, parts), config, MATHS["bf16"], x_ptr=planes, row_ptr=rows, size_ptr=sizes,
        out_ptr=found, n=n, d=d, k=k, part=part, x_step=planes.stride(0), x_row=rows.stride(0), TERMS=terms,
        CLOSE=how.close, K=max(triton.next_power_of_2(k), 2),
        UPCAST=interpreting(),
    )  # fmt: skip
    keys = found.view(n, parts * k) if parts == 1 else found.view(n, parts * k).sort(1).values
    indices, squares = empty((n, k), torch.int64, x.device), empty((n, k), torch.float32, x.device)
    launch(
        knn_unpack_kernel, (triton.cdiv(n * k, 256),), Config(256, 1, 1, 4, 1), how, key_ptr=keys, index_ptr=indices,
        square_ptr=squares, count=n * k, k=k, key_row=parts * k,
    )  # fmt: skip
    return indices, squares


_search_again = repeated(search)
nearest = torch.library.custom_op("graphkd::nearest_on_chip", search, mutates_args=())


@nearest.register_fake
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = len(x), k
    return x.new_empty(shape, dtype=torch.int64), x.new_empty(shape, dtype=torch.float32)


def knn(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows: ``reference.knn``."""
    fit(x)
    if not 0 < k <= min(MOST, len(x) - 1) or x.dtype == torch.float64 or transformed():
        found: tuple[Tensor, Tensor] = _blocked.OPERATIONS["knn"](x, k)
        return found
    find = nearest if torch.compiler.is_compiling() else _search_again
    indices, squares = find(x.detach(), k)
    if x.requires_grad and torch.is_grad_enabled():
        x = widen(x)
        squares = torch.where(squares == 0, 0.0, (x.unsqueeze(1) - x[indices]).square().sum(-1))
    return indices, squares
