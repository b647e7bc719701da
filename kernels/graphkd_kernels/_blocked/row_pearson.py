r"""Corresponding rows, or columns, of two matrices compared: one correlation for each, and its gradient.

With :math:`\hat x, \hat y` centred and of unit length, :math:`\ell` the lengths before, and eps beside their product,

.. math:: c = k \langle \hat x, \hat y \rangle, \qquad k = \frac{\ell_x \ell_y}{\ell_x \ell_y + \epsilon}, \qquad
    \frac{\partial c}{\partial x} = \frac{k}{\ell_x} (\hat y - c\, \hat x)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels._blocked.row_kl import ROW_ENTRIES, matrices, one_per_row
from graphkd_kernels._blocked.rows import map_rows
from graphkd_kernels.autograd import Found, Maybe, Rule, apply, as_graphs, register
from graphkd_kernels.reference.distances import can_look
from graphkd_kernels.reference.rows import unit_scale

__all__ = ["damped_column_pearson", "damped_row_pearson", "row_pearson"]
Needs = tuple[bool, bool]
COLUMN_ENTRIES = 2**18  # of one block of rows that several passes read: it stays near its core
_USUAL = 1e-30, 1e30
"""Sums of squares of columns that float32 holds with all their digits."""


def _of_rows(needs: Needs, student: Tensor, teacher: Tensor, eps: float) -> Found:
    """Correlation of corresponding rows, eps beside the lengths, and its gradients; 0 where a row is constant.

    Shapes: (*b, n, m) twice -> (*b, n), and (*b, n, m) where needed.
    """
    s, t, gradients = matrices(student, teacher, needs)
    values = s.new_empty(len(s))
    for rows in row_slices(len(s), s.shape[1], ROW_ENTRIES):
        mapped, inverse = map_rows(torch.cat([s[rows], t[rows]]), "pearson")
        assert inverse is not None
        (x, y), (ix, iy) = mapped.chunk(2), inverse.chunk(2)
        k = (ix * eps).mul_(iy).add_(1).reciprocal_()
        c = torch.linalg.vecdot(x, y).unsqueeze(-1).mul_(k)
        values[rows] = c.squeeze(-1)
        for gradient, ours, theirs, scale in zip(gradients, (x, y), (y, x), (ix, iy), strict=True):
            if gradient is not None:
                torch.addcmul(theirs, ours, c, value=-1, out=gradient[rows]).mul_(scale * k)
    return values.view(student.shape[:-1]), tuple(None if g is None else g.view(student.shape) for g in gradients)


def constant(squares: Tensor, offsets: Tensor) -> Tensor:
    """Where one side is constant up to rounding: centred squares (2, k) beside what the means add to them."""
    return (squares <= (4 * torch.finfo(squares.dtype).eps) ** 2 * (squares + offsets)).any(0)


def correlation(squares: Tensor, products: Tensor, dead: Maybe, eps: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Correlations from centred sums of squares (2, k) and of products (k,); 0 where ``dead``, if there is such.

    Returns: correlations, the factor of the other vector in both gradients, the factors (2, k) of each in its own.
    """
    if dead is not None:
        squares = squares.masked_fill(dead, 1.0)
    lengths = squares.sqrt().prod(0)
    cross = (lengths + eps).reciprocal_()
    if dead is not None:
        cross.masked_fill_(dead, 0.0)
    value = products * cross
    return value, cross, (value * lengths).mul_(cross).neg_() / squares


def _of_columns(needs: Needs, student: Tensor, teacher: Tensor, eps: float) -> Found:
    """As :func:`_of_rows` for columns; a matrix that leaves the cache is not transposed.

    Shapes: (*b, n, m) twice -> (*b, m), and (*b, n, m) where needed.
    """
    if student.numel() <= COLUMN_ENTRIES:
        values, found = _of_rows(needs, student.mT, teacher.mT, eps)
        return values, tuple(None if g is None else g.mT.contiguous() for g in found)
    ds, dt = (torch.empty_like(student, memory_format=torch.contiguous_format) if need else None for need in needs)
    nowhere = [None] * student.shape[:-2].numel()
    places = zip(*(nowhere if each is None else as_graphs(each) for each in (ds, dt)), strict=True)
    graphs = zip(as_graphs(student), as_graphs(teacher), places, strict=True)
    values = torch.stack([_columns(s, t, eps, found) for s, t, found in graphs])
    return values.view(*student.shape[:-2], student.shape[-1]), (ds, dt)


def _columns(s: Tensor, t: Tensor, eps: float, gradients: Sequence[Maybe]) -> Tensor:
    """Correlations of one graph's columns; its gradients are written where they are wanted."""
    means = s.mean(0), t.mean(0)
    sums = _centred_sums(s, t, means)
    low, high = (each.item() for each in sums[:2].aminmax()) if can_look(s) else (0.0, 0.0)
    if not (_USUAL[0] < low and high < _USUAL[1]):
        return _columns_of_any_size(s, t, eps, gradients)
    return _from_sums(s, t, means, sums, eps, gradients)


def _columns_of_any_size(s: Tensor, t: Tensor, eps: float, gradients: Sequence[Maybe]) -> Tensor:
    """The same where squares may under- or overflow: of columns divided by powers of two near their largest numbers."""
    (s, power_s), (t, power_t) = (unit_scale(each.mT) for each in (s, t))
    s, t, powers = s.mT, t.mT, (power_s.mT, power_t.mT)
    means = s.mean(0), t.mean(0)
    scaled = eps / powers[0].squeeze(0) / powers[1].squeeze(0)
    values = _from_sums(s, t, means, _centred_sums(s, t, means), scaled, gradients)
    for gradient, power in zip(gradients, powers, strict=True):
        if gradient is not None:
            gradient.div_(power)
    return values


def _centred_sums(s: Tensor, t: Tensor, means: tuple[Tensor, Tensor]) -> Tensor:
    """Squares of s, of t, and products, of columns without their means. Shapes: (n, m) twice -> (3, m)."""
    sums = s.new_zeros(3, s.shape[1])
    for rows in row_slices(len(s), s.shape[1], COLUMN_ENTRIES):
        x, y = s[rows] - means[0], t[rows] - means[1]
        sums[2] += (x * y).sum(0)
        sums[0] += x.square_().sum(0)
        sums[1] += y.square_().sum(0)
    return sums


def _from_sums(
    s: Tensor, t: Tensor, means: tuple[Tensor, Tensor], sums: Tensor, eps: float | Tensor, gradients: Sequence[Maybe]
) -> Tensor:
    values, cross, own = correlation(sums[:2], sums[2], constant(sums[:2], len(s) * torch.stack(means).square()), eps)
    for rows in row_slices(len(s), s.shape[1], COLUMN_ENTRIES) if any(each is not None for each in gradients) else ():
        x, y = s[rows] - means[0], t[rows] - means[1]
        for gradient, ours, theirs, factor in zip(gradients, (x, y), (y, x), own, strict=True):
            if gradient is not None:
                torch.mul(theirs, cross, out=gradient[rows]).addcmul_(ours, factor)
    return values


register("row_pearson", Rule(_of_rows, reference.damped_row_pearson, empty=one_per_row, compiled="operator"))
register(
    "column_pearson",
    Rule(
        _of_columns,
        reference.damped_column_pearson,
        spread=lambda upstream, gradient: upstream.unsqueeze(-2),
        empty=lambda student, *others: student.new_empty(*student.shape[:-2], student.shape[-1]),
        compiled="operator",
    ),
)


def row_pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """Correlation of corresponding rows."""
    return apply("row_pearson", (0.0,), student, teacher)


def damped_row_pearson(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Correlation of corresponding rows, eps beside the lengths."""
    return apply("row_pearson", (float(eps),), student, teacher)


def damped_column_pearson(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Correlation of corresponding columns, eps beside the lengths."""
    return apply("column_pearson", (float(eps),), student, teacher)
