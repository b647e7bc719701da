r"""Algebra of the Gram matrices of both networks' joined rows: sums over all pairs of nodes, from D x D numbers.

For equal widths the joined rows are :math:`J = [S + T, S - T]`, else :math:`J = [S, T]`; P, Q and W are the blocks of
:math:`J^\top J = \begin{pmatrix} P & W \\ W^\top & Q \end{pmatrix}`. Derivation: ``_blocked/joint_rows.py``.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


def join_mapped(s: Tensor, t: Tensor) -> Tensor:
    """[S + T, S - T], or [S, T] where the widths differ. Differentiable."""
    return torch.cat([s + t, s - t] if s.shape[-1] == t.shape[-1] else [s, t], -1)


class Grams(NamedTuple):
    """Blocks of J'J; ``difference``: J = [S + T, S - T] and not [S, T]."""

    p: Tensor
    q: Tensor
    w: Tensor
    difference: bool

    def squares(self, targets: "Grams") -> Tensor:
        """Sum of all squared edges from sources with these matrices to targets with those; float64, differentiable."""
        if self.difference:
            return 0.25 * (_inner(self.p, targets.q) + _inner(self.q, targets.p) + 2 * _inner(self.w, targets.w.mT))
        return _inner(self.p, targets.p) + _inner(self.q, targets.q) - 2 * _inner(self.w, targets.w)

    def own(self) -> tuple[Tensor, Tensor]:
        """S'S and T'T."""
        if not self.difference:
            return self.p, self.q
        equal, crossed = self.p + self.q, self.w + self.w.mT
        return (equal + crossed) / 4, (equal - crossed) / 4

    def identity(self, rows: int) -> Tensor:
        """Sum of all squares of T S' - I, for ``rows`` nodes of equal widths; float64, differentiable."""
        ours, theirs = self.own()
        matches = diagonal(self.p - self.q).sum(dtype=torch.float64) / 4
        return _inner(ours, theirs) - 2 * matches + rows

    def teachers(self) -> Tensor:
        """Sum of all squares of T S' - T T', equal widths; float64, differentiable."""
        return _inner(self.own()[1], self.q)

    def factors(self, scale: float) -> tuple[Tensor, Tensor]:
        """What the other side's joined rows are multiplied by, to give scale times its students' and teachers'
        gradients."""
        p, q, w = self.p, self.q, self.w
        if self.difference:
            pair = torch.cat([q + w.mT, w + p], -2), torch.cat([q - w.mT, w - p], -2)
            return pair[0] * (scale / 2), pair[1] * (scale / 2)
        return 2 * scale * torch.cat([p, -w.mT], -2), 2 * scale * torch.cat([-w, q], -2)


def split(gram: Tensor, student: int, teacher: int) -> Grams:
    """The blocks of J'J, of which the upper triangle is read. Differentiable."""
    p, q = gram[..., :student, :student], gram[..., student:, student:]
    return Grams(symmetric(p), symmetric(q), gram[..., :student, student:], student == teacher)


def symmetric(upper: Tensor) -> Tensor:
    """The symmetric matrix that has this upper triangle; what is below is not read."""
    return upper.triu() + upper.triu(1).mT


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=torch.float64)


def diagonal(x: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n"]:
    """Entries (i, i), gathered: torch 2.15's Inductor gives ``Tensor.diagonal`` and the rest of x a wrong gradient."""
    positions = torch.arange(x.shape[-1], device=x.device).expand(x.shape[:-1])
    return x.gather(-1, positions.unsqueeze(-1)).squeeze(-1)
