"""Published losses of class scores, written from their equations."""

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax


def kd(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Hinton et al.: the divergence of softened probabilities, times T^2."""
    log_s, t = log_softmax(student / temperature, 1), softmax(teacher / temperature, 1)
    return temperature**2 * kl_div(log_s, t, reduction="batchmean")


def correlation(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
    """DIST, eq. 4: centred cosine of corresponding rows."""
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1) + eps)


def dist(student: Tensor, teacher: Tensor) -> Tensor:
    """DIST, eqs. 8-10: rows, then columns, of the two matrices of probabilities."""
    s, t = softmax(student, 1), softmax(teacher, 1)
    return (1 - correlation(s, t)).mean() + (1 - correlation(s.T, t.T)).mean()


def dkd(student: Tensor, teacher: Tensor, target: Tensor, temperature: float = 4.0) -> Tensor:
    """DKD, eq. 7 with alpha 1 and beta 8: the label's share, and the other classes among themselves."""
    label = torch.zeros_like(student).scatter(1, target[:, None], 1)
    s, t = softmax(student / temperature, 1), softmax(teacher / temperature, 1)
    s2, t2 = (torch.stack([(p * label).sum(1), (p * (1 - label)).sum(1)], 1) for p in (s, t))
    others_s, others_t = (z / temperature - 1000 * label for z in (student, teacher))
    target_part = kl_div(s2.log(), t2, reduction="batchmean")
    other_part = kl_div(log_softmax(others_s, 1), softmax(others_t, 1), reduction="batchmean")
    return temperature**2 * (target_part + 8 * other_part)
