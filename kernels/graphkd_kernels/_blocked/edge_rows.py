"""Losses of edges (softmax KL, PKT, InfoNCE, penalties of any relation) over row blocks; no n x m matrix exists.

Value and gradient are computed together, so that each block of the matrix is formed once and never kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from graphkd_kernels._blocked.blocks import Block, row_blocks
from graphkd_kernels._blocked.edge_blocks import EdgeBlocks, edge_blocks
from graphkd_kernels._blocked.groups import Found, Nodes, in_groups
from graphkd_kernels._blocked.penalty_rows import PENALTIES
from graphkd_kernels._blocked.softmax_rows import contrast_rows, kl_rows, pkt_rows
from graphkd_kernels.autograd import Maybe, Needs

# Values and derivatives from two blocks of entries, which only losses of inner products may overwrite.
RowLoss = Callable[[Tensor, Tensor, tuple[bool, bool]], tuple[Tensor, Maybe, Maybe]]


def edge_kl(
    xs: Tensor,
    ys: Maybe,
    xt: Tensor,
    yt: Maybe,
    relation: str,
    temperature: float,
    gamma: float,
    needs: Needs,
) -> Found:
    """Sum over rows of KL(softmax(teacher's edges / T) || softmax(student's edges / T)), and its gradients.

    Shapes: xs (*b, n, d), ys (*b, m, d), xt (*b, n, e), yt (*b, m, e); gradients in that order, ``None`` where not
    needed.
    """
    return _compare((xs, ys, xt, yt), needs, kl_rows, relation, 1 / temperature, gamma)


def edge_pkt(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, needs: Needs) -> Found:
    """Sum of PKT's divergence of the rows, and its gradients. Shapes: as of :func:`edge_kl`."""
    return _compare((xs, ys, xt, yt), needs, pkt_rows, "pkt")


def edge_penalty(
    xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float, needs: Needs
) -> Found:
    """Sum of a penalty of the differences, "square", "huber" or "unit" (squares of unit rows), and its gradients.

    Shapes: as of :func:`edge_kl`. Graphs together as far as the cache holds their matrices.
    """

    def compare(nodes: Nodes, needs: Needs) -> Found:
        symmetric = ys is None and penalty != "unit"
        return _compare(nodes, needs, PENALTIES[penalty], relation, 1.0, gamma, symmetric)

    return in_groups(compare, needs, (xs, ys, xt, yt), max(xs.shape[-2], 0 if ys is None else ys.shape[-2]))


def _compare(
    nodes: Nodes,
    needs: Needs,
    loss: RowLoss,
    relation: str,
    scale: float = 1.0,
    gamma: float = 1.0,
    symmetric: bool = False,
) -> Found:
    xs, ys, xt, yt = nodes
    assert xs is not None
    assert xt is not None
    student = edge_blocks(xs, ys, relation, scale, (needs[0], needs[1]), gamma, symmetric)
    teacher = edge_blocks(xt, yt, relation, scale, (needs[2], needs[3]), gamma, symmetric)
    buffers = _Buffers(xs, 2)
    totals = []
    for block in row_blocks(*student.shape):
        s, t = (side.entries(block, buffers(i, block, side)) for i, side in enumerate((student, teacher)))
        values, ds, dt = loss(s, t, (student.needed, teacher.needed))
        totals.append(values.sum(dtype=torch.float64))
        for side, derivative, entries in ((student, ds, s), (teacher, dt, t)):
            if derivative is not None:
                side.collect(block, derivative, entries)
    gradients = (*_shaped(student, xs, ys, needs[:2]), *_shaped(teacher, xt, yt, needs[2:]))
    return _sum(totals, xs), gradients


def info_nce(
    x: Tensor, y: Maybe, positives: Tensor, relation: str, temperature: float, gamma: float, needs: Needs
) -> Found:
    """- sum_i log softmax(relation(x, y) / T) at (i, positives_i), and its gradients in x and y.

    Shapes: x (*b, n, d), y (*b, m, d), positives (*b, n), of int64.
    """
    side = edge_blocks(x, y, relation, 1 / temperature, (needs[0], needs[1]), gamma)
    places = positives.reshape(side.shape[0], -1, 1)
    buffers = _Buffers(x, 1)
    totals = []
    for block in row_blocks(*side.shape):
        scores = side.entries(block, buffers(0, block, side))
        values, derivative = contrast_rows(scores, places[block], side.needed)
        totals.append(values.sum(dtype=torch.float64))
        if derivative is not None:
            side.collect(block, derivative, scores)
    return _sum(totals, x), _shaped(side, x, y, needs)


class _Buffers:
    """Memory of the blocks, taken once and used by each: fresh pages would cost more than the arithmetic."""

    def __init__(self, like: Tensor, count: int) -> None:
        self.like, self.held = like, [like.new_empty(0)] * count

    def __call__(self, which: int, block: Block, side: EdgeBlocks) -> Tensor:
        graphs, rows = (each.stop - each.start for each in block)
        size = graphs * rows * side.shape[2]
        if self.held[which].numel() < size:
            self.held[which] = self.like.new_empty(size)
        return self.held[which][:size].view(graphs, rows, side.shape[2])


def _sum(totals: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(totals).sum().to(like.dtype) if totals else like.new_zeros(())


def _shaped(side: EdgeBlocks, x: Tensor, y: Maybe, needs: Needs) -> tuple[Maybe, Maybe]:
    if not any(needs):
        return None, None
    dx, dy = side.gradients()
    return None if dx is None else dx.view(x.shape), None if dy is None or y is None else dy.view(y.shape)
