"""``knn``: tiles of distances formed on chip, and the k nearest of each row kept there."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import _blocked
from graphkd_kernels._triton import edge_tiles
from graphkd_kernels._triton.configs import math, pick
from graphkd_kernels._triton.kernel_rule import fit
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.tiles import COUNTS, products
from graphkd_kernels.autograd import transformed
from graphkd_kernels.precision import widened

__all__ = ["knn"]
MOST = 64
"""Neighbours that one tile of columns holds. More of them, or float64, go by blocks of vendor products."""


@triton.jit
def _nearest(keys, K: tl.constexpr):
    """The K smallest of each row, smallest first."""
    return -tl.topk(-keys, K, 1)


@triton.jit(do_not_specialize=COUNTS)
def knn_kernel(
    x_ptr, size_ptr, index_ptr, value_ptr, n, d, k,
    TINY: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """The k nearest other rows of each row of x (n, d), nearest first; of equal distances the lower index.

    A key is the distance's bits above the index: distances are not negative, so keys sort as they do. NaN comes last.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_size = tl.load(size_ptr + row, mask=row < n, other=0.0)
    none = 0x7FFFFFFFFFFFFFFF
    best = tl.full([ROWS, K], none, tl.int64)
    for start in range(0, n, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        product = products(x_ptr, x_ptr, row, column, n, n, d, d, d, BK, PRECISION, UPCAST, SUMS)
        sizes = row_size[:, None] + tl.load(size_ptr + column, mask=column < n, other=0.0)[None, :]
        square = sizes - 2.0 * product
        square = tl.where(square <= TINY * sizes, 0.0, square)
        bits = tl.where(square == square, square.to(tl.int32, bitcast=True), 0x7FC00000)
        keys = (bits.to(tl.int64) << 32) | column[None, :].to(tl.int64)
        keys = tl.where((row[:, None] == column[None, :]) | (column >= n)[None, :], none, keys)
        both = tl.join(best, _nearest(keys, K))
        best = _nearest(tl.reshape(both, [ROWS, 2 * K]), K)
    rank = tl.arange(0, K)
    place = row.to(tl.int64)[:, None] * k + rank[None, :]
    keep = (row < n)[:, None] & (rank < k)[None, :]
    tl.store(index_ptr + place, best & 0xFFFFFFFF, mask=keep)
    tl.store(value_ptr + place, (best >> 32).to(tl.int32).to(tl.float32, bitcast=True), mask=keep)


def search(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k), without gradient."""
    n, d = x.shape
    x, how = (x - x.mean(0, keepdim=True)).contiguous(), math(x.dtype)
    config = pick("knn", how, x.device)
    indices, values = empty((n, k), torch.int64, x.device), empty((n, k), x.dtype, x.device)
    launch(
        knn_kernel, (triton.cdiv(n, config.rows),), config, how, x_ptr=x,
        size_ptr=edge_tiles.sizes(x.unsqueeze(0), how), index_ptr=indices, value_ptr=values, n=n, d=d, k=k,
        TINY=how.tiny, K=max(triton.next_power_of_2(k), 2),
    )  # fmt: skip
    return indices, values


nearest = torch.library.custom_op("graphkd::nearest_on_chip", search, mutates_args=())


@nearest.register_fake
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = len(x), k
    return x.new_empty(shape, dtype=torch.int64), x.new_empty(shape)


@widened
def knn(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows: ``reference.knn``."""
    fit(x)
    if not 0 < k <= min(MOST, len(x) - 1) or x.dtype == torch.float64 or transformed():
        found: tuple[Tensor, Tensor] = _blocked.OPERATIONS["knn"](x, k)
        return found
    find = nearest if torch.compiler.is_compiling() else search
    indices, squares = find(x.detach(), k)
    if x.requires_grad and torch.is_grad_enabled():
        squares = torch.where(squares == 0, 0.0, (x.unsqueeze(1) - x[indices]).square().sum(-1))
    return indices, squares
