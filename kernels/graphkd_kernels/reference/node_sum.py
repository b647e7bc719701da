r"""Node terms: a teacher's rows against a student's: :math:`\sum (e(t_i, s_j) - \mathrm{target}_{ij})^2`."""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.precision import widened
from graphkd_kernels.reference.similarity import similarity

__all__ = ["node_sum"]


@widened
def node_sum(
    student: Float[Tensor, "m d"],
    teacher: Float[Tensor, "n d"],
    relation: str,
    target: str,
    offset: int = 0,
    everyone: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, ""]:
    """Sum of squares of relation(teacher_i, student_j) minus its target.

    ``"identity"``: 1 at j = offset + i, else 0. ``"gram"``: the relation of
    teacher_i with everyone's teacher_j (``None``: the teacher's own).
    """
    relations = similarity(teacher, student, relation)
    if target == "gram":
        return (relations - similarity(teacher, everyone, relation)).square().sum()
    assert target == "identity", target
    own, identity = torch.arange(len(teacher), device=teacher.device), torch.zeros_like(relations)
    identity[own, offset + own] = 1
    return (relations - identity).square().sum()
