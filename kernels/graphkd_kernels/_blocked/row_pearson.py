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
from graphkd_kernels.autograd import Found, Maybe, Rule, apply, register

__all__ = ["damped_column_pearson", "damped_row_pearson", "row_pearson"]
Needs = tuple[bool, bool]


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


def _correlation(
    xx: Tensor, yy: Tensor, xy: Tensor, means: tuple[Tensor, Tensor], count: int, eps: float
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """From centred sums: c, the factor of the other vector in its gradient, the factors of each vector in its own."""
    tiny = (4 * torch.finfo(xx.dtype).eps) ** 2
    dead = xx <= tiny * (xx + count * means[0].square())
    dead |= yy <= tiny * (yy + count * means[1].square())
    xx, yy = torch.where(dead, 1.0, xx), torch.where(dead, 1.0, yy)
    product = (xx.sqrt() * yy.sqrt()).add_(eps)
    value = torch.where(dead, 0.0, xy / product)
    pull = value * (1 - eps / product)  # c |x| |y| / D
    return value, torch.where(dead, 0.0, 1 / product), (-pull / xx, -pull / yy)


def _write(
    gradients: Sequence[Maybe], rows: slice, x: Tensor, y: Tensor, cross: Tensor, own: tuple[Tensor, Tensor]
) -> None:
    """The gradients of a block of centred rows, where they are wanted."""
    for gradient, ours, theirs, factor in zip(gradients, (x, y), (y, x), own, strict=True):
        if gradient is not None:
            torch.mul(theirs, cross, out=gradient[rows]).addcmul_(ours, factor)


def _of_columns(needs: Needs, student: Tensor, teacher: Tensor, eps: float) -> Found:
    """As :func:`_of_rows` for columns; a matrix that leaves the cache is not transposed.

    Shapes: (*b, n, m) twice -> (*b, m), and (*b, n, m) where needed.
    """
    if student.numel() <= ROW_ENTRIES:
        values, found = _of_rows(needs, student.mT, teacher.mT, eps)
        return values, tuple(None if g is None else g.mT.contiguous() for g in found)
    ds, dt = (torch.empty_like(student, memory_format=torch.contiguous_format) if need else None for need in needs)
    nowhere = [None] * student.shape[:-2].numel()
    places = zip(*(nowhere if each is None else _graphs(each) for each in (ds, dt)), strict=True)
    graphs = zip(_graphs(student), _graphs(teacher), places, strict=True)
    values = torch.stack([_columns(s, t, eps, found) for s, t, found in graphs])
    return values.view(*student.shape[:-2], student.shape[-1]), (ds, dt)


def _graphs(x: Tensor) -> Tensor:
    return x.reshape(-1, *x.shape[-2:])


def _columns(s: Tensor, t: Tensor, eps: float, gradients: Sequence[Maybe]) -> Tensor:
    """Correlations of one graph's columns; its gradients are written where they are wanted."""
    n, m = s.shape
    blocks = row_slices(n, m, ROW_ENTRIES)
    means = s.mean(0), t.mean(0)
    sums = torch.zeros(3, m, dtype=torch.float64 if s.dtype == torch.float64 else torch.float32, device=s.device)
    for rows in blocks:
        x, y = s[rows] - means[0], t[rows] - means[1]
        for total, product in zip(sums, (x * y, x.square_(), y.square_()), strict=True):
            total += product.sum(0)
    values, cross, own = _correlation(sums[1], sums[2], sums[0], means, n, eps)
    for rows in blocks if any(each is not None for each in gradients) else ():
        x, y = s[rows] - means[0], t[rows] - means[1]
        _write(gradients, rows, x, y, cross, own)
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
