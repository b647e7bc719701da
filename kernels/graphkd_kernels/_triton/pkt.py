"""``edge_pkt``: each row's affinities as a distribution, compared. A program owns whole rows of a block of products."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import nodes
from graphkd_kernels._triton.cases import WIDE, Case
from graphkd_kernels._triton.flash_configs import long_rows
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.library import KernelRule, fit, register
from graphkd_kernels._triton.nodes import Side, gradients_of
from graphkd_kernels._triton.row_kl import exact, log1p
from graphkd_kernels._triton.tiles import TYPES, block_of, load
from graphkd_kernels.autograd import Maybe, Needs, Options, apply
from graphkd_kernels.reference.edges import PKT_EPS, _pkt_rows


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


def divergence(products: Sequence[Tensor], needed: Sequence[bool]) -> Tensor:
    """Values (b, n) of a block's rows; products of sides that need a gradient are overwritten by its weights."""
    s, t = products
    b, n, m = s.shape
    config = long_rows(m, s.dtype, s.device, 4096)
    tiles = triton.cdiv(n, config.rows)
    value = empty((b, n), s.dtype, s.device)
    args = {"s_ptr": s, "t_ptr": t, "value_ptr": value, "n": n, "m": m, "tiles": tiles, "eps": PKT_EPS}
    rule = {
        "WS": needed[0], "WT": needed[1], "ROWS": config.rows, "COLUMNS": config.columns, "SUMS": TYPES[s.dtype],
    }  # fmt: skip
    launch(pkt_kernel, (b * tiles,), args, rule, config)
    return value


def _distribution(x: Maybe, y: Maybe) -> Tensor:
    assert x is not None
    kernel = ((reference.similarity(x, y, "gram") + 1) / 2).clamp_min(0)
    sums = kernel.sum(-1, keepdim=True)
    return kernel / torch.where(sums == 0, 1.0, sums)


class PKT(KernelRule):
    """Tensors: rows xs, ys, xt, yt scaled as PKT does; ys and yt ``None`` for a graph with itself."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        sides = [Side(tensors[i], tensors[i + 1], *needs[i : i + 2]) for i in (0, 2)]
        parts = []
        for graph, row in nodes.blocks(len(sides[0].x), sides[0].x.shape[1], sides[0].y.shape[1]):
            weights = [side.products(graph, row) for side in sides]
            parts.append(divergence(weights, [side.needed for side in sides]).sum())
            for side, weight in zip(sides, weights, strict=True):
                side.add(weight, graph, row, distances=False)
        return nodes.total(parts), gradients_of(sides, needs, tensors)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        xs, ys, xt, yt = tensors
        q, p = _distribution(xs, ys), _distribution(xt, yt)
        return (p * ((p + PKT_EPS) / (q + PKT_EPS)).log()).sum()


register("triton/edge_pkt", PKT())


def edge_pkt(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    """Sum over rows of PKT's divergence: ``reference.edge_pkt``."""
    fit(xs, ys, xt, yt)
    rows = [None if each is None else _pkt_rows(each) for each in nodes.one_type(xs, ys, xt, yt)]
    return apply("triton/edge_pkt", (), *rows)


OPERATIONS: dict[str, Callable[..., Any]] = {"edge_pkt": edge_pkt}

CASES = [
    Case("triton/edge_pkt", (), ((n, 128), None, (n, 96), None), (True, False, True, False), WIDE)
    for n in (65, 256, 8192)
]
