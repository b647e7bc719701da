r"""``rkd_distance``: value and gradient from the upper half of the pairs, in blocks of rows.

With :math:`e_{ij} = d^S_{ij} / \mu_S - d^T_{ij} / \mu_T`, h its clamp to [-1, 1] and M the number of pairs,

.. math::
    \frac{\partial L}{\partial d^S_{ij}} = \frac{h_{ij}}{N^2 \mu_S} - \frac{\langle h, d^S \rangle}{N^2 \mu_S^2 M}

The mean distance needs all pairs first, the inner product needs all h: three sweeps over distances that are kept up to
a limit (half a matrix for each network) and computed again beyond it.
"""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.edge_blocks import BlockSquares
from graphkd_kernels.autograd import Found, Needs, Rule, apply, register

__all__ = ["rkd_distance"]

_LEAST = 1e-12  # of a squared distance between two nodes (RKD); no gradient there
_KEPT = 2**26  # distances of one network that are kept
_ENTRIES = 2**20  # of one block


class _Distances:
    """Distances within one network's nodes, for blocks of rows and the columns from there on."""

    def __init__(self, x: Tensor, blocks: list[slice]) -> None:
        self.x, self.squares = x, BlockSquares(x, x)
        keep = len(x) ** 2 <= 2 * _KEPT
        self.kept = [self._distances(rows) for rows in blocks] if keep else None
        self.pairs = len(x) * max(len(x) - 1, 1)
        total = torch.stack([self.total(self.block(at, rows), rows) for at, rows in enumerate(blocks)]).sum()
        self.mean = torch.where(total == 0, 1.0, total / self.pairs).to(x.dtype)

    def block(self, at: int, rows: slice) -> Tensor:
        """Distances of one block; not to be written to."""
        return self._distances(rows) if self.kept is None else self.kept[at]

    def total(self, entries: Tensor, rows: slice) -> Tensor:
        """Sum over both halves of the matrix, in float64."""
        width = rows.stop - rows.start
        return 2 * entries.sum(dtype=torch.float64) - entries[:, :width].sum(dtype=torch.float64)

    def _distances(self, rows: slice) -> Tensor:
        out = self.x.new_empty(rows.stop - rows.start, len(self.x) - rows.start)
        squares = self.squares.block(rows, slice(rows.start, None), out, own=0)
        distances = squares.clamp_min_(_LEAST).sqrt_()
        distances.diagonal().zero_()
        return distances


def _gradients(needs: Needs, student: Tensor, teacher: Tensor) -> Found:
    n = len(student)
    height = min(max(_ENTRIES // n, 64), 1024)
    blocks = [slice(i, min(i + height, n)) for i in range(0, n, height)]
    sides = [_Distances(x, blocks) for x in (student, teacher)]
    sums = torch.stack([_sums(sides, at, rows, needs) for at, rows in enumerate(blocks)]).sum(0) / n**2
    return sums[0].to(student.dtype), tuple(
        _gradient(sides, which, blocks, sums[1 + which] / sides[which].mean.square()) if needs[which] else None
        for which in (0, 1)
    )


def _difference(sides: list[_Distances], at: int, rows: slice) -> Tensor:
    scaled = sides[0].block(at, rows) / sides[0].mean
    return scaled.addcdiv_(sides[1].block(at, rows), sides[1].mean, value=-1)


def _sums(sides: list[_Distances], at: int, rows: slice, needs: Needs) -> Tensor:
    """Of the penalties, and of h times each side's distances."""
    difference = _difference(sides, at, rows)
    h = difference.clamp(-1, 1)
    sums = [sides[0].total(difference.sub_(h, alpha=0.5).mul_(h), rows)]
    for side, needed in zip(sides, needs, strict=True):
        product = torch.mul(h, side.block(at, rows), out=difference) if needed else difference
        sums.append(side.total(product, rows) if needed else torch.zeros_like(sums[0]))
    return torch.stack(sums)


def _gradient(sides: list[_Distances], which: int, blocks: list[slice], pull: Tensor) -> Tensor:
    side, n = sides[which], len(sides[which].x)
    gradient = torch.zeros_like(side.x)
    least = 1.000001 * _LEAST**0.5
    slope = (1 - 2 * which) / (n**2 * side.mean)
    constant = ((1 - 2 * which) * pull / side.pairs).to(side.x.dtype)
    for at, rows in enumerate(blocks):
        distances, later = side.block(at, rows), slice(rows.stop, None)
        weights = _difference(sides, at, rows).clamp_(-1, 1).mul_(slope).sub_(constant)
        weights.div_(distances).masked_fill_(distances <= least, 0.0)
        gradient[rows] += side.squares.to_rows(weights, rows, slice(rows.start, None))
        gradient[later] += side.squares.to_columns(weights[:, rows.stop - rows.start :], rows, later)
    return gradient.mul_(2)


register("rkd_distance", Rule(_gradients, reference.rkd_distance, compiled="operator"))


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean smooth-L1 difference of all distances, each side's divided by their mean."""
    if not len(student):
        return reference.rkd_distance(student, teacher)
    return apply("rkd_distance", (), student, teacher)
