r"""``dist_sums``: DIST from class scores, its value in one sweep over blocks of rows and its gradient in another.

Rows of probabilities have the mean 1/C. Means and centred sums of columns are those of blocks, merged. With the
factors of ``row_pearson.correlation``, a of the other side and b of the own one, for rows and for columns, and with
the upstream gradients u,

.. math::
    \frac{\partial L}{\partial s} = \frac{p}{T} \circ \bigl(g - \langle p, g \rangle_{row}\bigr), \qquad
    g_{ic} = -(u_1 a_i + u_2 a_c)\, q_{ic} - (u_1 b_i + u_2 b_c)\, p_{ic} + u_2 (a_c \bar q_c + b_c \bar p_c) ;

the mean of a row is the same for all of it and drops out.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels._blocked.row_pearson import COLUMN_ENTRIES, constant, correlation
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, Rule, apply, register
from graphkd_kernels.reference.distances import can_look

__all__ = ["dist_sums"]
Moments = tuple[Tensor, Tensor]
"""Sums of squares of the teacher's and of the student's centred rows or columns (2, k), and of their products (k,)."""


def _moments(pair: Tensor, dim: int) -> Moments:
    return torch.linalg.vecdot(pair, pair, dim=dim), torch.linalg.vecdot(*pair, dim=dim)


def _merged(means: list[Tensor], moments: list[Moments], counts: list[int]) -> tuple[Tensor, Moments]:
    """Means (2, c) and moments of whole columns from those of blocks of so many rows; only the last is lower."""
    if len(counts) == 1:
        return means[0], moments[0]
    each = torch.stack(means, 1)  # (2, blocks, c)
    weight = each.new_full((len(counts), 1), counts[0])
    weight[-1] = counts[-1]
    mean = (each * weight).sum(1) / sum(counts)
    among = _moments((each - mean.unsqueeze(1)) * weight.sqrt(), -2)
    squares, products = (sum(part, between) for part, between in zip(zip(*moments, strict=True), among, strict=True))
    return mean, (squares, products)


def _dead(squares: Tensor, mean: Tensor, n: int) -> Maybe:
    """Which rows and columns are constant; ``None`` where the host sees that none is, as no mean is above 1."""
    if can_look(squares) and squares.amin().item() > 2 * max(n, 1) * (4 * torch.finfo(squares.dtype).eps) ** 2:
        return None
    return constant(squares, pad(mean.square().mul_(n), (n, 0), value=1 / mean.shape[1]))


def _gradients(needs: Needs, student: Tensor, teacher: Tensor, temperature: float, eps: float) -> Found:
    """Both sums; what their gradient is made of."""
    n, c = student.shape
    pairs, rows, columns, means = list[Tensor](), list[Moments](), list[Moments](), list[Tensor]()
    for block in row_slices(n, c, COLUMN_ENTRIES):
        pair = torch.stack([teacher[block], student[block]])
        pair = (pair if temperature == 1 else pair.div_(temperature)).softmax(-1)
        pairs.append(pair)
        rows.append(_moments(pair - 1 / c, -1))
        mean = pair.mean(1, keepdim=True)
        means.append(mean.squeeze(1))
        columns.append(_moments(pair - mean, -2))
    mean, of_columns = _merged(means, columns, [pair.shape[1] for pair in pairs])
    squares, products = (torch.cat(part, -1) for part in zip(*rows, of_columns, strict=True))
    value, cross, own = correlation(squares, products, _dead(squares, mean, n), eps)
    lacking = 1 - value
    return torch.stack([lacking[:n].sum(), lacking[n:].sum()]), (mean, cross, *own, *pairs)


def _finish(
    needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: Any, temperature: float, eps: float
) -> Kept:
    mean, cross, own_t, own_s, *pairs = kept
    up = upstream * (-1 / temperature)
    found: list[Maybe] = [None, None]
    if needs[0]:
        found[0] = _gradient(torch.stack([cross, own_s]), up, mean, pairs, 1)
    if needs[1]:
        found[1] = _gradient(torch.stack([own_t, cross]), up, mean, pairs, 0)
    return tuple(found)


def _gradient(factors: Tensor, up: Tensor, mean: Tensor, pairs: list[Tensor], own: int) -> Tensor:
    """In one side's scores, from the factors (2, n + c) of the teacher's and of the student's probabilities."""
    n = factors.shape[1] - mean.shape[1]
    rows, columns = (factors[:, :n] * up[0]).unsqueeze(-1), factors[:, n:] * up[1]
    shift, columns = (columns * mean).sum(0), columns.unsqueeze(1)
    found, start = list[Tensor](), 0
    for pair in pairs:
        end = start + pair.shape[1]
        g = (rows[:, start:end] + columns).mul_(pair).sum(0).sub_(shift)
        found.append(torch._softmax_backward_data(g, pair[own], -1, g.dtype))
        start = end
    return found[0] if len(found) == 1 else torch.cat(found)


register(
    "dist_sums", Rule(_gradients, reference.dist_sums, _finish, empty=lambda s, *_: s.new_empty(2), compiled="formula")
)


def dist_sums(student: Tensor, teacher: Tensor, temperature: float = 1.0, eps: float = 1e-8) -> Tensor:
    """DIST's two sums: over samples, and over classes."""
    if not len(student):
        return reference.dist_sums(student, teacher, temperature, eps)
    return apply("dist_sums", (float(temperature), float(eps)), student, teacher)
