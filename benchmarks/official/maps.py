"""Published losses of feature maps and tokens, written from their equations."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, kl_div, mse_loss, normalize

from benchmarks.official.samples import irg_edges, unit_gram


def attention(x: Tensor) -> Tensor:
    """AT, eq. 2: the mean square over channels as one vector of unit length."""
    return normalize(x.square().mean(1).flatten(1))


def ickd(student: Tensor, teacher: Tensor) -> Tensor:
    """ICKD: Gram matrices of channels with rows of unit length, squares summed over a row's entries, mean over rows."""
    s, t = unit_gram(student.flatten(2)), unit_gram(teacher.flatten(2))
    return (s - t).square().sum(-1).mean()


def flow(maps: Sequence[Tensor]) -> list[Tensor]:
    """FSP, eq. 1: mean products of the channels of two maps that follow each other."""
    found = []
    for first, second in pairwise(maps):
        first = adaptive_avg_pool2d(first, second.shape[2:]) if first.shape[2:] != second.shape[2:] else first
        a, b = first.flatten(2), second.flatten(2)
        found.append((b[:, :, None] * a[:, None]).mean(-1))
    return found


def fsp(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """FSP, eq. 2."""
    return torch.stack([mse_loss(s, t) for s, t in zip(flow(student), flow(teacher), strict=True)]).sum()


def nst(student: Tensor, teacher: Tensor) -> Tensor:
    """NST, eq. 10: maximum mean discrepancy with the squared cosine as kernel."""
    s, t = (normalize(x.flatten(2), dim=2) for x in (student, teacher))

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x[:, :, None] * y[:, None]).sum(-1).square().mean()

    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def change(lower: Tensor, upper: Tensor) -> Tensor:
    """IRG: how far each sample moves from one map to the next, over the largest."""
    lower = adaptive_avg_pool2d(lower, upper.shape[2:])
    upper = upper.unflatten(1, (lower.shape[1], -1)).mean(2)
    moved = (lower - upper).flatten(1).square().sum(1)
    return moved / moved.max()


def irg(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """IRG of (logits, embedding, map, map): vertices at 0.1, edges at 5 / 3 each, transformation at 5."""
    edges = [mse_loss(irg_edges(s), irg_edges(t)) for s, t in zip(student[1:], teacher[1:], strict=True)]
    moved = mse_loss(change(*student[2:]), change(*teacher[2:]))
    return 0.1 * mse_loss(student[0], teacher[0]) + 5 * torch.stack(edges).mean() + 5 * moved


def trg(student: Tensor, teacher: Tensor, neighbors: int = 8, temperature: float = 0.1) -> Tensor:
    """TRG as docs/methods/trg.md has it: within an image, among the nearest tokens, and across the networks."""
    inner = mse_loss(*((x @ x.mT / x.shape[-1] ** 0.5).softmax(-1) for x in (student, teacher)))
    s, t = student.flatten(0, 1), teacher.flatten(0, 1)
    local_s, local_t = (_affinities(x, neighbors) for x in (s, t))
    local = kl_div(local_t.log_softmax(1), local_s.log_softmax(1), reduction="batchmean", log_target=True)
    scores = normalize(s, dim=1) @ normalize(t, dim=1).T / temperature
    return inner + local + cross_entropy(scores, torch.arange(len(s), device=s.device))


def _affinities(x: Tensor, k: int) -> Tensor:
    apart = torch.cdist(x, x).square()
    away = apart.detach() + torch.diag(torch.full((len(x),), float("inf"), dtype=x.dtype, device=x.device))
    kept = torch.zeros_like(apart).scatter(1, away.topk(k, dim=1, largest=False).indices, 1)
    return torch.where(kept > 0, (-apart / (2 * x.shape[1])).exp(), 0.0)
