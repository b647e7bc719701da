r"""``joint_gram``: the Gram matrix of both networks' joined rows, which ranks exchange in place of nodes."""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.joint_rows import JointRows
from graphkd_kernels.autograd import Found, Kept, Needs, Rule, apply, register

__all__ = ["joint_gram"]


def _gradients(needs: Needs, student: Tensor, teacher: Tensor, relation: str) -> Found:
    """The matrix; its gradient waits for the upstream one."""
    p, q, w, _ = JointRows(student, teacher, relation).grams()
    gram = torch.cat([torch.cat([p, w], -1), torch.cat([w.mT, q], -1)], -2).squeeze(0)
    # Sums over many rows are float64; equal widths need no more digits than their rows have (joint_rows.py).
    return (gram.to(student.dtype) if p.shape == q.shape else gram.double()), ()


def _finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: Kept, relation: str) -> Kept:
    """Joined rows times both orientations of the upstream gradient, one product for each network."""
    rows, both = JointRows(*tensors, relation), (upstream + upstream.mT).unsqueeze(0)
    of_first, of_second = torch.split(both, list(rows.widths), -1)
    if rows.widths[0] == rows.widths[1]:
        of_first, of_second = of_first + of_second, of_first - of_second
    return rows.gradients((of_first, of_second), needs)


def _empty(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    width, one = student.shape[-1] + teacher.shape[-1], student.shape[-1] == teacher.shape[-1]
    return student.new_empty(width, width, dtype=student.dtype if one else torch.float64)


register("joint_gram", Rule(_gradients, reference.joint_gram, _finish, empty=_empty))


def joint_gram(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    """The matrix, its gradient in blocks of rows."""
    return apply("joint_gram", (relation,), student, teacher)
