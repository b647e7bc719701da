"""``knn``: tiles of distances formed on chip, and the k nearest of each row kept there."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import edge_tiles, node_blocks
from graphkd_kernels._triton.configs import math, pick, power
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import Config, empty, launch
from graphkd_kernels._triton.tiles import products
from graphkd_kernels.autograd import Found, Kept, Needs, apply
from graphkd_kernels.precision import widened

__all__ = ["knn"]
MOST = 64
"""Neighbours that one tile of columns holds. More of them, or float64, are picked from blocks of vendor products."""


@triton.jit
def _nearest(keys, K: tl.constexpr):
    """The K smallest of each row, smallest first."""
    return -tl.topk(-keys, K, 1)


@triton.jit
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


@triton.jit
def gather_kernel(
    x_ptr, start_ptr, other_ptr, weight_ptr, order_ptr, out_ptr, d,
    EDGES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out_i += sum of 2 w_e (x_i - x_other(e)) over the edges e of node i, in their order."""
    row = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    keep = feature < d
    x = tl.load(x_ptr + row * d + feature, mask=keep, other=0.0)
    total = tl.load(out_ptr + row * d + feature, mask=keep, other=0.0)
    first, last = tl.load(start_ptr + row), tl.load(start_ptr + row + 1)
    for place in range(first, last, EDGES):
        own = place + tl.arange(0, EDGES) < last
        edge = tl.load(order_ptr + place + tl.arange(0, EDGES), mask=own, other=0)
        other = tl.load(other_ptr + edge, mask=own, other=0)
        weight = tl.load(weight_ptr + edge, mask=own, other=0.0)
        y = tl.load(x_ptr + other[:, None] * d + feature[None, :], mask=own[:, None] & keep[None, :], other=0.0)
        total += 2.0 * tl.sum(weight[:, None] * tl.where(own[:, None], x[None, :] - y, 0.0), 0)
    tl.store(out_ptr + row * d + feature, total, mask=keep)


def search(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k), without gradient."""
    n, d = x.shape
    if not 0 < k < n:
        return reference.knn(x, k)  # 0 neighbours, or the error for too many
    x, how = (x - x.mean(0, keepdim=True)).contiguous(), math(x.dtype)
    if k > MOST or x.dtype == torch.float64:
        return _blocked_search(x, k, how.tiny)
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


def _blocked_search(x: Tensor, k: int, tiny: float) -> tuple[Tensor, Tensor]:
    sizes, found = x.square().sum(1), []
    for _, row in node_blocks.blocks(1, len(x), len(x)):
        both = sizes[row, None] + sizes
        squares = both - 2 * x[row] @ x.T
        squares = torch.where(squares <= tiny * both, 0.0, squares)
        squares.diagonal(row.start).fill_(float("inf"))
        found.append(squares.topk(k, dim=1, largest=False))
    return torch.cat([each.indices for each in found]), torch.cat([each.values for each in found])


def _squares(needs: Needs, x: Tensor, neighbours: Tensor, squares: Tensor) -> Found:
    """Squared lengths of given edges of x (n, d) to neighbours (n, k), already known."""
    return squares.clone(), ()


def _squares_finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor, Tensor], kept: Kept) -> Kept:
    x, neighbours, squares = tensors
    x, (n, k), device = x.contiguous(), neighbours.shape, x.device
    weights = torch.where(squares == 0, 0.0, upstream).contiguous()
    ends, own, out = neighbours.reshape(-1), torch.arange(n * k, device=device), torch.zeros_like(x)
    _gather(x, torch.arange(0, n * k + 1, k, device=device), ends, weights, own, out)
    # The edges of a node as somebody's neighbour: the transpose, sorted, so that sums have one order.
    arrived, order = ends.sort(stable=True)
    starts = torch.searchsorted(arrived, torch.arange(n + 1, device=device))
    _gather(x, starts, own // k, weights, order, out)
    return out, None, None


def _squares_formula(x: Tensor, neighbours: Tensor, squares: Tensor) -> Tensor:
    found = (x.unsqueeze(1) - x[neighbours]).square().sum(-1)
    return torch.where(squares == 0, 0.0, found)


def _gather(x: Tensor, starts: Tensor, others: Tensor, weights: Tensor, order: Tensor, out: Tensor) -> None:
    config = Config(1, power(x.shape[1], 128), 1, 4, 1)
    launch(
        gather_kernel, (len(x), triton.cdiv(x.shape[1], config.columns)), config, math(x.dtype), x_ptr=x,
        start_ptr=starts, other_ptr=others, weight_ptr=weights, order_ptr=order, out_ptr=out, d=x.shape[1], EDGES=16,
    )  # fmt: skip


kernel_rule("triton/knn", _squares, _squares_formula, finish=_squares_finish, compiled="formula")


@widened
def knn(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows: ``reference.knn``."""
    fit(x)
    find = nearest if torch.compiler.is_compiling() else search
    indices, squares = find(x.detach(), k)
    return indices, apply("triton/knn", (), x, indices, squares)
