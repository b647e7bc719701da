r"""``node_sum``: teacher's rows against student's, with a target, by pairs or through D x D Gram matrices.

.. math::
    \lVert T S^\top - I \rVert^2 &= \langle T^\top T, S^\top S \rangle - 2 \sum_i \langle t_i, s_{o+i} \rangle + n \\
    \lVert T S^\top - T T_*^\top \rVert^2 &= \langle T^\top T, (S - T_*)^\top (S - T_*) \rangle
"""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.joint_rows import sum_gram
from graphkd_kernels._blocked.rows import map_rows, unmap_rows
from graphkd_kernels.autograd import Found, Maybe, Needs, Rule, apply, register
from graphkd_kernels.plans import node_path

__all__ = ["node_sum"]


def _gradients(
    needs: Needs, student: Tensor, teacher: Tensor, everyone: Maybe, relation: str, target: str, offset: int, path: str
) -> Found:
    others = None if everyone is None else map_rows(everyone, relation)
    maps = map_rows(student, relation), map_rows(teacher, relation), others
    s, t = maps[0][0], maps[1][0]
    if target == "gram":
        value, (of_s, of_t) = _difference(s, t, t if others is None else others[0], path, needs[1])
        found: tuple[Maybe, ...] = of_s, of_t, -of_s
        if others is None:
            found = of_s, None if of_t is None else of_t - of_s, None
    else:
        value, found = _identity(s, t, offset, path, needs[1])
    return value.to(s.dtype), tuple(
        unmap_rows(g, *m, relation) if need and m is not None and g is not None else None
        for g, m, need in zip(found, maps, needs, strict=True)
    )


def _formula(
    student: Tensor, teacher: Tensor, everyone: Maybe, relation: str, target: str, offset: int, path: str
) -> Tensor:
    if path == "pairs":
        return reference.node_sum(student, teacher, relation, target, offset, everyone)
    row_map = reference.ROW_MAPS[relation]
    s, t = row_map(student).double(), row_map(teacher).double()
    own = t.mT @ t
    if target == "gram":
        apart = s - (t if everyone is None else row_map(everyone).double())
        return (own * (apart.mT @ apart)).sum().to(student.dtype)
    matches = (t * s[offset : offset + len(t)]).sum()
    return ((own * (s.mT @ s)).sum() - 2 * matches + len(t)).to(student.dtype)


def _identity(s: Tensor, t: Tensor, offset: int, path: str, teacher: bool) -> Found:
    own = slice(offset, offset + len(t))
    if path == "pairs":
        nodes = t @ s.mT
        nodes.diagonal(offset).sub_(1)
        return nodes.square().sum(), ((nodes.mT @ t).mul_(2), (nodes @ s).mul_(2) if teacher else None, None)
    of_s, of_t = sum_gram(s), sum_gram(t)
    matches = (t * s[own]).sum(dtype=torch.float64)
    value = (of_s.double() * of_t).sum() - 2 * matches + len(t)
    grad = s @ (2 * of_t).to(s.dtype)
    grad[own].sub_(t, alpha=2)
    return value, (grad, (t @ (2 * of_s).to(s.dtype)).sub_(s[own], alpha=2) if teacher else None, None)


def _difference(
    s: Tensor, t: Tensor, everyone: Tensor, path: str, teacher: bool
) -> tuple[Tensor, tuple[Tensor, Maybe]]:
    """The gradient in everyone's rows is the negative of that in the student's."""
    apart = s - everyone
    if path == "pairs":
        nodes = t @ apart.mT
        return nodes.square().sum(), ((nodes.mT @ t).mul_(2), (nodes @ apart).mul_(2) if teacher else None)
    of_t, of_apart = sum_gram(t), sum_gram(apart)
    of_s = apart @ (2 * of_t).to(s.dtype)
    return (of_t.double() * of_apart).sum(), (of_s, t @ (2 * of_apart).to(s.dtype) if teacher else None)


register("node_sum", Rule(_gradients, _formula))


def node_sum(
    student: Tensor, teacher: Tensor, relation: str, target: str, offset: int = 0, everyone: Maybe = None
) -> Tensor:
    """The sum of squares, by the path that is less work."""
    everyone = everyone if target == "gram" else None
    path = node_path(len(student), *teacher.shape)
    return apply("node_sum", (relation, target, offset, path), student, teacher, everyone)
