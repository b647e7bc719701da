"""``knn`` and ``knn_graph``: tiles of distances formed on chip, and the k nearest of each row kept there."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import edges, nodes
from graphkd_kernels._triton.cases import WIDE, Case
from graphkd_kernels._triton.configs import Config
from graphkd_kernels._triton.flash_configs import arithmetic, pick
from graphkd_kernels._triton.late import LateRule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.library import KernelRule, fit, register, there
from graphkd_kernels._triton.tiles import constants, products
from graphkd_kernels.autograd import RULES, Maybe, Needs, Options, apply
from graphkd_kernels.precision import widened

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
    EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out_i += sum of 2 w_e (x_i - x_other(e)) over the edges e of node i, in their order."""
    row = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
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
    x = (x - x.mean(0, keepdim=True)).contiguous()
    if k > MOST or x.dtype == torch.float64:
        return _blocked_search(x, k)
    math = arithmetic(x.dtype)
    config = pick("knn", math, x.device)
    indices, values = empty((n, k), torch.int64, x.device), empty((n, k), x.dtype, x.device)
    args = {
        "x_ptr": x, "size_ptr": edges.sizes(x.unsqueeze(0), math), "index_ptr": indices, "value_ptr": values, "n": n,
        "d": d, "k": k,
    }  # fmt: skip
    rule = constants(math) | {
        "TINY": nodes.tiny(x.dtype), "K": max(triton.next_power_of_2(k), 2), "ROWS": config.rows,
        "COLUMNS": config.columns, "BK": config.depth,
    }  # fmt: skip
    launch(knn_kernel, (triton.cdiv(n, config.rows),), args, rule, config, math.name)
    return indices, values


def _blocked_search(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    sizes, found = x.square().sum(1), []
    for _, row in nodes.blocks(1, len(x), len(x)):
        both = sizes[row, None] + sizes
        squares = both - 2 * x[row] @ x.T
        squares = torch.where(squares <= nodes.tiny(x.dtype) * both, 0.0, squares)
        squares.diagonal(row.start).fill_(float("inf"))
        found.append(squares.topk(k, dim=1, largest=False))
    return torch.cat([each.indices for each in found]), torch.cat([each.values for each in found])


@torch.library.custom_op("graphkd::nearest_on_chip", mutates_args=())
def _search(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return search(x, k)


@_search.register_fake
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = len(x), k
    return x.new_empty(shape, dtype=torch.int64), x.new_empty(shape)


class Nearest(KernelRule):
    """The search as a rule, so that the gate sees it. Options: k; its squares have no gradient."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        (x,), (k,) = there(*tensors), options
        return search(x, k)[1], (None,)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        (x,) = there(*tensors)
        return reference.knn(x, options[0])[1]


class Squares(LateRule):
    """Squared lengths of given edges of x. Tensors: x (n, d), neighbours (n, k), their known squares (n, k)."""

    def start(self, options: Options, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        return there(*tensors)[2].clone(), ()

    def empty(self, options: Options, *tensors: Maybe) -> Tensor:
        return torch.empty_like(there(*tensors)[2])

    def end(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        x, neighbours, squares = there(*tensors)
        x, (n, k) = x.contiguous(), neighbours.shape
        weights = torch.where(squares == 0, 0.0, upstream).contiguous()
        ends = neighbours.reshape(-1)
        here = torch.arange(n, device=x.device).repeat_interleave(k)
        out = torch.zeros_like(x)
        own, starts = torch.arange(n * k, device=x.device), torch.arange(0, n * k + 1, k, device=x.device)
        _gather(x, starts, ends, weights, own, out)
        # The edges of a node as somebody's neighbour: the transpose, sorted, so that sums have one order.
        arrived, order = ends.sort(stable=True)
        starts = torch.searchsorted(arrived, torch.arange(n + 1, device=x.device))
        _gather(x, starts, here, weights, order, out)
        return out, None, None

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        x, neighbours, squares = there(*tensors)
        found = (x.unsqueeze(1) - x[neighbours]).square().sum(-1)
        return torch.where(squares == 0, 0.0, found)


def _gather(x: Tensor, starts: Tensor, others: Tensor, weights: Tensor, order: Tensor, out: Tensor) -> None:
    block = min(max(triton.next_power_of_2(x.shape[1]), 16), 128)
    args = {
        "x_ptr": x, "start_ptr": starts, "other_ptr": others, "weight_ptr": weights, "order_ptr": order,
        "out_ptr": out, "d": x.shape[1],
    }  # fmt: skip
    rule = {"EDGES": 16, "BLOCK": block}
    launch(gather_kernel, (len(x), triton.cdiv(x.shape[1], block)), args, rule, Config(1, block, 1, 4, 1))


register("triton/nearest", Nearest())
register("triton/knn", Squares())


@widened
def knn(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows: ``reference.knn``."""
    fit(x)
    find = _search if torch.compiler.is_compiling() else search
    indices, squares = find(x.detach(), k)
    if torch.compiler.is_compiling():  # one value for each edge: its gradient is no factor of the upstream one
        return indices, RULES["triton/knn"].formula((), x, indices, squares)
    return indices, apply("triton/knn", (), x, indices, squares)


def knn_graph(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest neighbours in PyG's format: ``reference.knn_graph``."""
    indices, squares = knn(x, k)
    here = torch.arange(len(x), device=x.device).repeat_interleave(k)
    return torch.stack([indices.flatten(), here]), squares.flatten()


OPERATIONS: dict[str, Callable[..., Any]] = {"knn": knn, "knn_graph": knn_graph}

CASES = [
    *(Case("triton/nearest", (k,), ((5000, 128),), (False,), dtypes=(torch.float32,)) for k in (1, 10, 16, 32, 64)),
    Case("triton/knn", (), ((5000, 128), (5000, 10), (5000, 10)), (True, False, False), WIDE, integers=(1,)),
]
