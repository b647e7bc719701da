"""Normalisers and penalties of edges as passes over blocks: what a whole row or matrix would say, from sums."""

from collections.abc import Callable

import torch
from graphkd_kernels.reference.rows import expectation

from graphkd import distributed
from graphkd.ring.pairs import Pairs
from graphkd.typing import Float, Tensor

Penalty = Callable[[Tensor, Tensor], Tensor]
RowSums = Callable[[Pairs], Float[Tensor, ""]]


def unchanged(pairs: Pairs) -> Pairs:
    """No rule."""
    return pairs


def center(pairs: Pairs) -> Pairs:
    """Each row's mean subtracted."""
    means = pairs.sum(lambda *edges: _columns([x.sum(-1) for x in edges])) / pairs.targets
    return pairs.changed(_minus, means)


def unit(pairs: Pairs) -> Pairs:
    """Rows of unit length; a zero row stays zero."""
    squares = pairs.sum(lambda *edges: _columns([x.square().sum(-1) for x in edges]))
    dead = squares == 0
    return pairs.changed(_times, torch.where(dead, 0.0, 1 / torch.where(dead, 1.0, squares).sqrt()))


def by_sum(pairs: Pairs) -> Pairs:
    """Rows divided by their sums; a row of zeros stays as it is."""
    sums = pairs.sum(lambda *edges: _columns([x.sum(-1) for x in edges]))
    return pairs.changed(_times, 1 / torch.where(sums == 0, 1.0, sums))


def by_mean(pairs: Pairs) -> Pairs:
    """Divided by the mean of the positive entries of all ranks."""

    def positive(*edges: Tensor) -> Tensor:
        return _columns([part for x in edges for part in (torch.where(x > 0, x, 0.0).sum(-1), (x > 0).sum(-1))])

    sums, counts = distributed.total(pairs.sum(positive).sum(0)).view(-1, 2).unbind(-1)
    return _divided(pairs, torch.where(counts > 0, sums / counts.clamp_min(1), 1.0))


def by_maximum(pairs: Pairs) -> Pairs:
    """Divided by the largest entry of all ranks; its gradient is shared by all entries that are as large."""
    tops = pairs.maximum()
    lowest = tops.new_full((1, tops.shape[1]), -torch.inf)  # of a rank without sources
    top = torch.stack([distributed.maximum(x) for x in torch.cat([tops, lowest]).amax(0)])

    def hits(*given: Tensor) -> Tensor:
        edges, top = given[:-1], given[-1]
        found = [(x, x == top[:, k : k + 1]) for k, x in enumerate(edges)]
        return _columns([part for x, hit in found for part in (torch.where(hit, x, 0.0).sum(-1), hit.sum(-1))])

    sums, counts = distributed.total(pairs.sum(hits, top.expand(len(tops), -1)).sum(0)).view(-1, 2).unbind(-1)
    largest = torch.where(counts > 0, sums / counts.clamp_min(1), top)  # a NaN equals nothing, and goes out
    return _divided(pairs, torch.where(largest > 0, largest, 1.0))


def entries(penalty: Penalty) -> RowSums:
    """Sum of a penalty of each entry."""
    return lambda pairs: pairs.sum(lambda student, teacher: penalty(student, teacher).sum(-1, keepdim=True)).sum()


def row_kl(temperature: float) -> RowSums:
    r"""KL of the rows' softmax, :math:`\sum_j w_j (t_j - s_j) / Z^T - \log Z^T / Z^S` with :math:`w_j = e^{t_j}`."""

    def found(pairs: Pairs) -> Tensor:
        of_s, of_t, _, apart = _softmax_sums(pairs, temperature)
        return (apart / of_t - of_t.log() + of_s.log()).sum()

    return found


def cross_entropy(pairs: Pairs) -> Float[Tensor, ""]:
    """Cross-entropy of the student's row softmax under the teacher's."""
    of_s, of_t, mixed, _ = _softmax_sums(pairs, 1.0)
    return (of_s.log() - mixed / of_t).sum()


def row_decorrelation(pairs: Pairs) -> Float[Tensor, ""]:
    """1 - correlation of corresponding rows; a row that is constant up to rounding correlates with none."""
    count = pairs.targets
    means = pairs.sum(lambda s, t: _columns([s.sum(-1), t.sum(-1)])) / count

    def moments(s: Tensor, t: Tensor, means: Tensor) -> Tensor:
        x, y = _minus(s, t, means)
        return _columns([x.square().sum(-1), y.square().sum(-1), (x * y).sum(-1)])

    *squares, mixed = pairs.sum(moments, means).unbind(-1)
    dead = torch.zeros_like(mixed, dtype=torch.bool)
    for square, mean in zip(squares, means.detach().unbind(-1), strict=True):
        length = square.detach().sqrt()
        dead = dead | (length <= 4 * torch.finfo(mean.dtype).eps * torch.hypot(length, mean * count**0.5))
    ss, tt = (torch.where(dead, 1.0, square) for square in squares)
    return (1 - torch.where(dead, 0.0, mixed / (ss.sqrt() * tt.sqrt()))).sum()


def contrast(pairs: Pairs) -> Float[Tensor, ""]:
    """-log softmax of each row at the source's own place, for values (scores, scores there and 0 elsewhere)."""
    top = pairs.maximum()[:, :1]

    def sums(scores: Tensor, own: Tensor, top: Tensor) -> Tensor:
        return _columns([(scores - top).exp().sum(-1), own.sum(-1)])

    partition, own = pairs.sum(sums, top).unbind(-1)
    return (partition.log() + top.squeeze(-1) - own).sum()


def _softmax_sums(pairs: Pairs, temperature: float) -> tuple[Tensor, ...]:
    """Both partition functions, and the teacher's sums of s and of t - s; rows are shifted by their tops."""

    def sums(s: Tensor, t: Tensor, tops: Tensor) -> Tensor:
        s, t = (s - tops[:, :1]) / temperature, (t - tops[:, 1:]) / temperature
        weights = t.exp()
        return _columns([s.exp().sum(-1), weights.sum(-1), expectation(weights, s), expectation(weights, t - s)])

    return pairs.sum(sums, pairs.maximum()).unbind(-1)


def _divided(pairs: Pairs, by: Float[Tensor, " k"]) -> Pairs:
    return pairs.changed(_times, (1 / by).expand(len(pairs.own[0]), -1))


def _times(*given: Tensor) -> tuple[Tensor, ...]:
    edges, factors = given[:-1], given[-1]
    return tuple(x * factors[:, k : k + 1] for k, x in enumerate(edges))


def _minus(*given: Tensor) -> tuple[Tensor, ...]:
    edges, means = given[:-1], given[-1]
    return tuple(x - means[:, k : k + 1] for k, x in enumerate(edges))


def _columns(numbers: list[Tensor]) -> Float[Tensor, "n k"]:
    return torch.stack([x.to(numbers[0].dtype) for x in numbers], -1)
