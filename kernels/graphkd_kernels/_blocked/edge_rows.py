"""Losses of whole rows of edges (softmax KL, PKT, InfoNCE) over row blocks; no n x m matrix exists."""

from collections.abc import Callable

import torch
from torch import Tensor

from graphkd_kernels._blocked.blocks import Related, related, row_blocks
from graphkd_kernels._blocked.softmax_rows import contrast_rows, kl_rows, pkt_rows

Needs = tuple[bool, ...]
Gradients = tuple[Tensor | None, ...]
RowLoss = Callable[[Tensor, Tensor, tuple[bool, bool]], tuple[Tensor, Tensor | None, Tensor | None]]


def edge_kl(
    xs: Tensor,
    ys: Tensor | None,
    xt: Tensor,
    yt: Tensor | None,
    relation: str,
    temperature: float,
    gamma: float,
    needs: Needs,
) -> tuple[Tensor, Gradients]:
    """Sum over rows of KL(softmax(teacher's edges / T) || softmax(student's edges / T)), and its gradients.

    Shapes: xs (*b, n, d), ys (*b, m, d), xt (*b, n, e), yt (*b, m, e); gradients in that order, ``None`` where not
    needed.
    """
    return _compare((xs, ys, xt, yt), relation, 1 / temperature, gamma, kl_rows, needs)


def edge_pkt(xs: Tensor, ys: Tensor | None, xt: Tensor, yt: Tensor | None, needs: Needs) -> tuple[Tensor, Gradients]:
    """Sum of PKT's divergence of the rows, and its gradients. Shapes: as of :func:`edge_kl`."""
    return _compare((xs, ys, xt, yt), "pkt", 1.0, 1.0, pkt_rows, needs)


def _compare(
    nodes: tuple[Tensor, Tensor | None, Tensor, Tensor | None],
    relation: str,
    scale: float,
    gamma: float,
    loss: RowLoss,
    needs: Needs,
) -> tuple[Tensor, Gradients]:
    xs, ys, xt, yt = nodes
    student = related(xs, ys, relation, scale, (needs[0], needs[1]), gamma)
    teacher = related(xt, yt, relation, scale, (needs[2], needs[3]), gamma)
    buffers = _Buffers(xs, 2)
    totals = []
    for block in row_blocks(*student.shape):
        s, t = (side.entries(block, buffers(i, block, side)) for i, side in enumerate((student, teacher)))
        values, ds, dt = loss(s, t, (student.needed, teacher.needed))
        totals.append(values.sum(dtype=torch.float64))
        for side, derivative in ((student, ds), (teacher, dt)):
            if derivative is not None:
                side.collect(block, derivative)
    gradients = (*_shaped(student, xs, ys, needs[:2]), *_shaped(teacher, xt, yt, needs[2:]))
    return _sum(totals, xs), gradients


def info_nce(
    x: Tensor, y: Tensor | None, positives: Tensor, relation: str, temperature: float, gamma: float, needs: Needs
) -> tuple[Tensor, Gradients]:
    """- sum_i log softmax(relation(x, y) / T) at (i, positives_i), and its gradients in x and y.

    Shapes: x (*b, n, d), y (*b, m, d), positives (*b, n), of int64.
    """
    side = related(x, y, relation, 1 / temperature, (needs[0], needs[1]), gamma)
    places = positives.reshape(side.shape[0], -1, 1)
    buffers = _Buffers(x, 1)
    totals = []
    for block in row_blocks(*side.shape):
        scores = side.entries(block, buffers(0, block, side))
        values, derivative = contrast_rows(scores, places[block], side.needed)
        totals.append(values.sum(dtype=torch.float64))
        if derivative is not None:
            side.collect(block, derivative)
    return _sum(totals, x), _shaped(side, x, y, needs)


class _Buffers:
    """Memory of the blocks, taken once and used by each: fresh pages would cost more than the arithmetic."""

    def __init__(self, like: Tensor, count: int) -> None:
        self.like, self.held = like, [like.new_empty(0)] * count

    def __call__(self, which: int, block: tuple[slice, slice], side: Related) -> Tensor:
        graphs, rows = (each.stop - each.start for each in block)
        size = graphs * rows * side.shape[2]
        if self.held[which].numel() < size:
            self.held[which] = self.like.new_empty(size)
        return self.held[which][:size].view(graphs, rows, side.shape[2])


def _sum(totals: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(totals).sum().to(like.dtype) if totals else like.new_zeros(())


def _shaped(side: Related, x: Tensor, y: Tensor | None, needs: Needs) -> Gradients:
    if not any(needs):
        return None, None
    dx, dy = side.gradients()
    return None if dx is None else dx.view(x.shape), None if dy is None or y is None else dy.view(y.shape)
