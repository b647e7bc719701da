"""``edge_pkt``: each row's affinities as a distribution, compared. A program owns whole rows of a block of products.

The value is the sum of p log(p / q) - (p - q), of second order term by term; the first order sums to nothing.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton import node_blocks
from graphkd_kernels._triton.configs import long_rows, math
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.node_blocks import NodeProducts
from graphkd_kernels._triton.row_kl import log1p
from graphkd_kernels._triton.tiles import block_of, exact, load
from graphkd_kernels.autograd import Found, Maybe, Needs, apply
from graphkd_kernels.reference.edge_pkt import PKT_EPS, pkt_rows, scaled_pkt

__all__ = ["edge_pkt"]


@triton.jit
def _affinity(ptr, row, column, n, m):
    """(cosine + 1) / 2, not below 0, and whether its gradient passes; 0 outside."""
    k = (load(ptr, row, column, n, m, m) + 1) * 0.5
    below = (k < 0) | (column >= m)[None, :]  # a NaN is not, and passes
    return tl.where(below, 0.0, k), below


@triton.jit
def pkt_kernel(
    s_ptr, t_ptr, value_ptr, n, m, tiles, eps: tl.float64,
    WS: tl.constexpr, WT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Rows of products s and t (b, n, m) to sum p log((p + eps) / (q + eps)); WS, WT: overwritten by the gradient."""
    graph, row = block_of(tiles, ROWS)
    s_ptr, t_ptr, eps = s_ptr + graph * n * m, t_ptr + graph * n * m, exact(eps, SUMS)
    total_s, total_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        q, _ = _affinity(s_ptr, row, column, n, m)
        p, _ = _affinity(t_ptr, row, column, n, m)
        total_s += tl.sum(q, 1)
        total_t += tl.sum(p, 1)
    scale_s = (1.0 / tl.where(total_s == 0, 1.0, total_s))[:, None]
    scale_t = (1.0 / tl.where(total_t == 0, 1.0, total_t))[:, None]
    value, mean_s, mean_t = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, m, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        q, _ = _affinity(s_ptr, row, column, n, m)
        p, _ = _affinity(t_ptr, row, column, n, m)
        q, p = q * scale_s, p * scale_t
        gap = tl.where((column < m)[None, :], p - q, 0.0)
        ratio = log1p(gap / (q + eps))
        value += tl.sum(p * ratio - gap, 1)  # of second order; the first order sums to nothing
        mean_s -= tl.sum(p / (q + eps) * q, 1)
        mean_t += tl.sum((ratio + p / (p + eps)) * p, 1)
    value += tl.where(total_t == 0, 0.0, 1.0) - tl.where(total_s == 0, 0.0, 1.0)
    tl.store(value_ptr + graph * n + row, value, mask=row < n)
    if WS or WT:
        for start in range(0, m, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            inside = (row < n)[:, None] & (column < m)[None, :]
            q, below_s = _affinity(s_ptr, row, column, n, m)
            p, below_t = _affinity(t_ptr, row, column, n, m)
            q, p = q * scale_s, p * scale_t
            place = row.to(tl.int64)[:, None] * m + column[None, :]
            if WS:
                w = (-p / (q + eps) - mean_s[:, None]) * scale_s * 0.5
                tl.store(s_ptr + place, tl.where(below_s, 0.0, w), mask=inside)
            if WT:
                w = (log1p((p - q) / (q + eps)) + p / (p + eps) - mean_t[:, None]) * scale_t * 0.5
                tl.store(t_ptr + place, tl.where(below_t, 0.0, w), mask=inside)


def _loss(sides: Sequence[NodeProducts], products: Sequence[Tensor], graph: slice, row: slice) -> Tensor:
    s, t = products
    b, n, m = s.shape
    config, value = long_rows(m, s.dtype, s.device, 4096), empty((b, n), s.dtype, s.device)
    tiles = triton.cdiv(n, config.rows)
    launch(
        pkt_kernel, (b * tiles,), config, math(s.dtype), s_ptr=s, t_ptr=t, value_ptr=value, n=n, m=m, tiles=tiles,
        eps=PKT_EPS, WS=sides[0].needed, WT=sides[1].needed,
    )  # fmt: skip
    return value


def _gradients(needs: Needs, *nodes: Maybe) -> Found:
    return node_blocks.sweep_products(nodes, needs, False, _loss)


kernel_rule("triton/edge_pkt", _gradients, scaled_pkt)


def edge_pkt(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    """Sum over rows of PKT's divergence: ``reference.edge_pkt``."""
    fit(xs, ys, xt, yt)
    rows = [None if each is None else pkt_rows(each) for each in node_blocks.one_type(xs, ys, xt, yt)]
    return apply("triton/edge_pkt", (), *rows)
