"""Divergences of rows as distributions, with derivatives: the part of each loss that sees one block of a matrix."""

import torch
from torch import Tensor

from graphkd_kernels.reference.edges import PKT_EPS


def kl_rows(student: Tensor, teacher: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """KL(softmax(teacher) || softmax(student)) of each row and its derivatives.

    Shapes: (*b, n, m) twice -> (*b, n, 1), and (*b, n, m) where needed.
    """
    q, p = student.softmax(-1), teacher.softmax(-1)
    shift = (_log_total(teacher, p) - _log_total(student, q)).to(p.dtype)
    excess = torch.sub(teacher, student).sub_(shift).masked_fill_(p == 0, 0.0)  # log p - log q; 0 log 0 = 0
    ds = q.sub_(p) if needs[0] else None
    if not needs[1]:
        return excess.mul_(p).sum(-1, keepdim=True), ds, None
    values = (p * excess).sum(-1, keepdim=True)
    return values, ds, excess.sub_(values).mul_(p)


def _log_total(scores: Tensor, shares: Tensor) -> Tensor:
    """log sum exp of each row, in float64: the largest share, softmax's 1 / sum, belongs to the largest score."""
    return scores.amax(-1, keepdim=True).double() - shares.amax(-1, keepdim=True).double().log()


def pkt_rows(student: Tensor, teacher: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor | None, Tensor | None]:
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


def contrast_rows(scores: Tensor, positives: Tensor, needed: bool) -> tuple[Tensor, Tensor | None]:
    """- log softmax(scores) at the positive of each row and its derivative.

    Shapes: (*b, n, m), (*b, n, 1) -> (*b, n, 1), (*b, n, m) where needed.
    """
    logs = scores.log_softmax(-1)
    values = -logs.gather(-1, positives)
    if not needed:
        return values, None
    one = logs.new_ones(()).expand(positives.shape)
    return values, logs.exp_().scatter_add_(-1, positives, -one)
