"""Corresponding rows, or columns, of two matrices compared: one value for each, and its gradient, block by block.

Correlation with eps beside the lengths: with centred x, y and :math:`D = |x| |y| + \\epsilon`,
:math:`c = \\langle x, y \\rangle / D` and :math:`\\partial c / \\partial x = y / D - c\\, |y| / (|x| D)\\, x`.
"""

import torch
from torch import Tensor

from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels._blocked.softmax_rows import kl_rows

_ENTRIES = 2**18  # of one block: its inputs and its gradients stay in the cache
Gradients = tuple[Tensor | None, Tensor | None]
Needs = tuple[bool, bool]


def _matrices(student: Tensor, teacher: Tensor, needs: Needs) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    s, t = (each.reshape(-1, each.shape[-1]) for each in (student, teacher))
    return s, t, [torch.empty_like(s, memory_format=torch.contiguous_format) if need else None for need in needs]


def row_kl(student: Tensor, teacher: Tensor, temperature: float, needs: Needs) -> tuple[Tensor, Gradients]:
    """KL(softmax(teacher / T) || softmax(student / T)) of each row, and its gradients.

    Shapes: (*b, n, m) twice -> (*b, n), and (*b, n, m) where needed.
    """
    scale = 1 / temperature
    if student.numel() <= _ENTRIES:
        value, ds, dt = kl_rows(student * scale, teacher * scale, needs)
        return value.squeeze(-1), (None if ds is None else ds.mul_(scale), None if dt is None else dt.mul_(scale))
    s, t, gradients = _matrices(student, teacher, needs)
    values = s.new_empty(len(s), 1)
    for rows in row_slices(len(s), s.shape[1], _ENTRIES):
        values[rows], *found = kl_rows(s[rows] * scale, t[rows] * scale, needs)
        for gradient, each in zip(gradients, found, strict=True):
            if gradient is not None and each is not None:
                torch.mul(each, scale, out=gradient[rows])
    ds, dt = (None if each is None else each.view(student.shape) for each in gradients)
    return values.view(student.shape[:-1]), (ds, dt)


def damped_row_pearson(student: Tensor, teacher: Tensor, eps: float, needs: Needs) -> tuple[Tensor, Gradients]:
    """Correlation of corresponding rows, eps beside the lengths, and its gradients; 0 where a row is constant.

    Shapes: (*b, n, m) twice -> (*b, n), and (*b, n, m) where needed.
    """
    s, t, gradients = _matrices(student, teacher, needs)
    values = s.new_empty(len(s), 1)
    for rows in row_slices(len(s), s.shape[1], _ENTRIES):
        x, y = s[rows], t[rows]
        means = x.mean(-1, keepdim=True), y.mean(-1, keepdim=True)
        x, y = x - means[0], y - means[1]
        xx, yy, xy = (torch.linalg.vecdot(a, b).unsqueeze(-1) for a, b in ((x, x), (y, y), (x, y)))
        values[rows], cross, own = _correlation(xx, yy, xy, means, s.shape[1], eps)
        for gradient, ours, theirs, factor in zip(gradients, (x, y), (y, x), own, strict=True):
            if gradient is not None:
                torch.mul(theirs, cross, out=gradient[rows]).addcmul_(ours, factor)
    ds, dt = (None if each is None else each.view(student.shape) for each in gradients)
    return values.view(student.shape[:-1]), (ds, dt)


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


def damped_column_pearson(student: Tensor, teacher: Tensor, eps: float, needs: Needs) -> tuple[Tensor, Gradients]:
    """As :func:`damped_row_pearson` for columns, without a transposed copy.

    Shapes: (*b, n, m) twice -> (*b, m), and (*b, n, m) where needed.
    """
    ds, dt = (torch.empty_like(student, memory_format=torch.contiguous_format) if need else None for need in needs)
    nowhere = [None] * student.shape[:-2].numel()
    places = zip(*(nowhere if each is None else _graphs(each) for each in (ds, dt)), strict=True)
    graphs = zip(_graphs(student), _graphs(teacher), places, strict=True)
    values = torch.stack([_columns(s, t, eps, found) for s, t, found in graphs])
    return values.view(*student.shape[:-2], student.shape[-1]), (ds, dt)


def _graphs(x: Tensor) -> Tensor:
    return x.reshape(-1, *x.shape[-2:])


def _columns(s: Tensor, t: Tensor, eps: float, gradients: Gradients) -> Tensor:
    """Correlations of one graph's columns; its gradients are written where they are wanted."""
    n, m = s.shape
    blocks = row_slices(n, m, _ENTRIES)
    means = s.mean(0), t.mean(0)
    sums = torch.zeros(3, m, dtype=torch.float64 if s.dtype == torch.float64 else torch.float32, device=s.device)
    for rows in blocks:
        x, y = s[rows] - means[0], t[rows] - means[1]
        for total, product in zip(sums, (x * y, x.square_(), y.square_()), strict=True):
            total += product.sum(0)
    values, cross, own = _correlation(sums[1], sums[2], sums[0], means, n, eps)
    for rows in blocks if any(each is not None for each in gradients) else ():
        x, y = s[rows] - means[0], t[rows] - means[1]
        for gradient, ours, theirs, factor in zip(gradients, (x, y), (y, x), own, strict=True):
            if gradient is not None:
                torch.mul(theirs, cross, out=gradient[rows]).addcmul_(ours, factor)
    return values
