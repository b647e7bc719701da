"""``edge_pkt``: PKT's affinities as distributions, in blocks of rows."""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import formula_by_rows
from graphkd_kernels._blocked.edge_blocks import compare
from graphkd_kernels.autograd import Found, Maybe, Needs, Rule, apply, register
from graphkd_kernels.reference.edge_pkt import PKT_EPS

__all__ = ["edge_pkt"]


def pkt_rows(student: Tensor, teacher: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Maybe, Maybe]:
    """PKT's divergence of each row of cosines and its derivatives; both blocks are overwritten.

    Shapes: (*b, n, m) twice -> (*b, n, 1), and (*b, n, m) where needed.
    """
    below_s, below_t = student < -1, teacher < -1  # by rounding
    p, total_p = _distribution(teacher)
    q, total_q = _distribution(student)
    ratio = (p + PKT_EPS).div_(q + PKT_EPS).log_()
    values = (p * ratio).sum(-1, keepdim=True)
    rest = (q - p).sum(-1, keepdim=True)  # 0 but for the rounding of both totals, which it takes off; 1 without any q
    values += torch.where(rest.abs() < 0.5, rest, 0.0)
    ds = dt = None
    if needs[0]:
        dq = (p / (q + PKT_EPS)).neg_()
        ds = _to_cosines(dq, q, total_q, below_s)
    if needs[1]:
        dp = ratio.add_(p / (p + PKT_EPS))
        dt = _to_cosines(dp, p, total_p, below_t)
    return values, ds, dt


def _distribution(cosines: Tensor) -> tuple[Tensor, Tensor]:
    kernel = cosines.add_(1).mul_(0.5).clamp_min_(0)
    total = kernel.sum(-1, keepdim=True)
    total.masked_fill_(total == 0, 1.0)
    return kernel.div_(total), total


def _to_cosines(derivative: Tensor, shares: Tensor, total: Tensor, below: Tensor) -> Tensor:
    """From a derivative in P = K / sum K to one in the cosines, K = (cos + 1) / 2."""
    derivative.sub_(torch.linalg.vecdot(derivative, shares).unsqueeze(-1))
    return derivative.div_(2 * total).masked_fill_(below, 0.0)


def _sweep(needs: Needs, xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Found:
    return compare((xs, ys, xt, yt), needs, pkt_rows, "pkt")


register("edge_pkt", Rule(_sweep, formula_by_rows(reference.edge_pkt, 4), compiled="operator"))


def edge_pkt(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    """PKT's divergence of the rows, summed."""
    return apply("edge_pkt", (), xs, ys, xt, yt)
