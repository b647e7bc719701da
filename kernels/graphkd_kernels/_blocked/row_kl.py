r"""``row_kl``: divergence of corresponding rows of two matrices, and its gradient, block by block.

The gradient in the student's logits is (q - p) / T. Near convergence the divergence is a small sum of differences of
numbers around 7. Their rounding is also in p and q: :math:`\sum_j q_j - p_j`, which is 0 without it, takes it off.
"""

from math import isfinite

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels.autograd import Found, Maybe, Rule, apply, register
from graphkd_kernels.reference.distances import can_look

__all__ = ["row_kl"]
ROW_ENTRIES = 2**20  # of one block: its inputs and gradients fit the last cache; threads wait less for each other


def kl_rows(student: Tensor, teacher: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Maybe, Maybe]:
    """KL(softmax(teacher) || softmax(student)) of each row and its derivatives.

    Shapes: (*b, n, m) twice -> (*b, n, 1), and (*b, n, m) where needed.
    """
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    p = log_p.exp()
    excess = log_p.sub_(log_q)
    ds = log_q.exp_().sub_(p)
    values = torch.linalg.vecdot(p, excess)
    if not (can_look(p) and isfinite(values.sum().item())):  # without an infinite logit nothing needs a mask
        values = torch.linalg.vecdot(p, excess.masked_fill_(p == 0, 0.0))  # 0 log 0 = 0
    values = values.add_(ds.sum(-1)).unsqueeze(-1)
    return values, ds if needs[0] else None, excess.sub_(values).mul_(p) if needs[1] else None


def matrices(student: Tensor, teacher: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor, Tensor, list[Maybe]]:
    """Both as (n, m), and memory for the gradients that are needed."""
    s, t = (each.reshape(each.shape[:-1].numel(), each.shape[-1]) for each in (student, teacher))
    return s, t, [torch.empty_like(s, memory_format=torch.contiguous_format) if need else None for need in needs]


def _sweep(needs: tuple[bool, bool], student: Tensor, teacher: Tensor, temperature: float) -> Found:
    scale = 1 / temperature
    if student.numel() <= ROW_ENTRIES:
        value, ds, dt = kl_rows(student * scale, teacher * scale, needs)
        return value.squeeze(-1), (None if ds is None else ds.mul_(scale), None if dt is None else dt.mul_(scale))
    s, t, gradients = matrices(student, teacher, needs)
    values = s.new_empty(len(s), 1)
    for rows in row_slices(len(s), s.shape[1], ROW_ENTRIES):
        values[rows], *found = kl_rows(s[rows] * scale, t[rows] * scale, needs)
        for gradient, each in zip(gradients, found, strict=True):
            if gradient is not None and each is not None:
                torch.mul(each, scale, out=gradient[rows])
    return values.view(student.shape[:-1]), tuple(None if g is None else g.view(student.shape) for g in gradients)


def one_per_row(student: Tensor, *others: object) -> Tensor:
    """An empty value for each row, as the compiler sees it."""
    return student.new_empty(student.shape[:-1])


register("row_kl", Rule(_sweep, reference.row_kl, empty=one_per_row, compiled="operator"))


def row_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL of each row's softmax."""
    return apply("row_kl", (float(temperature),), student, teacher)
