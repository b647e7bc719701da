"""Divergences of rows as distributions, with derivatives: the part of each loss that sees one block of a matrix."""

import torch
from torch import Tensor

_PKT_EPS = 1e-7


def _exponentials(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shifts z in place by its row maximum; also e^z and its row sums."""
    z.sub_(z.amax(-1, keepdim=True))
    powers = z.exp()
    return z, powers, powers.sum(-1, keepdim=True)


def kl_rows(student: Tensor, teacher: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """KL(softmax(teacher) || softmax(student)) of each row and its derivatives; both blocks are overwritten.

    Shapes: (*b, n, m) twice -> (*b, n, 1), and (*b, n, m) where needed.
    """
    s, powers_s, total_s = _exponentials(student)
    t, powers_t, total_t = _exponentials(teacher)
    excess = t.sub_(s)  # z_t - z_s, each below its maximum
    inverse = 1 / total_t
    mean = torch.linalg.vecdot(powers_t, excess).unsqueeze(-1) * inverse
    values = mean + (total_s / total_t).log()
    ds = dt = None
    if needs[1]:  # p_t (z_t - z_s - mean)
        dt = excess.sub_(mean).mul_(powers_t).mul_(inverse)
    if needs[0]:  # p_s - p_t
        ds = powers_s.div_(total_s).addcmul_(powers_t, inverse, value=-1)
    return values, ds, dt


def pkt_rows(
    student: Tensor, teacher: Tensor, needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """PKT's divergence of each row of cosines and its derivatives; both blocks are overwritten.

    Shapes: (*b, n, m) twice -> (*b, n, 1), and (*b, n, m) where needed.
    """
    below_s, below_t = student < -1, teacher < -1  # by rounding
    p, total_p = _distribution(teacher)
    q, total_q = _distribution(student)
    ratio = (p + _PKT_EPS).div_(q + _PKT_EPS).log_()
    values = (p * ratio).sum(-1, keepdim=True)
    ds = dt = None
    if needs[0]:
        dq = (p / (q + _PKT_EPS)).neg_()
        ds = _to_cosines(dq, q, total_q, below_s)
    if needs[1]:
        dp = ratio.add_(p / (p + _PKT_EPS))
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
    """- log softmax(scores) at the positive of each row and its derivative; the block is overwritten.

    Shapes: (*b, n, m), (*b, n, 1) -> (*b, n, 1), (*b, n, m) where needed.
    """
    z, powers, total = _exponentials(scores)
    values = total.log() - z.gather(-1, positives)
    if not needed:
        return values, None
    one = powers.new_ones(()).expand(positives.shape)
    return values, powers.div_(total).scatter_add_(-1, positives, -one)
