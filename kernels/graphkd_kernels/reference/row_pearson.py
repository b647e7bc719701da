r"""Correlations of corresponding rows or columns (DIST).

.. math:: c = \frac{\langle x, y \rangle}{|x| |y| + \epsilon} \quad\text{of centred x and y}
"""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.reference.rows import center_normalize, unit_scale

__all__ = ["damped_column_pearson", "damped_row_pearson", "row_pearson"]


def row_length(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n 1"]:
    # Not Tensor.norm: in float32 on the CPU it loses up to 7e-4 on long rows, a sum of squares does not.
    return x.square().sum(-1, keepdim=True).sqrt()


def row_pearson(student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b n"]:
    """Correlation of each row of one matrix with the same row of the other."""
    return (center_normalize(student) * center_normalize(teacher)).sum(-1)


def damped_row_pearson(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], eps: float
) -> Float[Tensor, "*b n"]:
    """Correlation of corresponding rows with eps added to the denominator (DIST); 0 where a row is constant."""
    (student, power_x), (teacher, power_y) = unit_scale(student), unit_scale(teacher)
    x, y = (each - each.mean(dim=-1, keepdim=True) for each in (student, teacher))
    tiny = 4 * torch.finfo(x.dtype).eps
    dead = row_length(x.detach()) <= tiny * row_length(student.detach())
    dead = dead | (row_length(y.detach()) <= tiny * row_length(teacher.detach()))
    x, y = torch.where(dead, 1.0, x), torch.where(dead, 1.0, y)
    cosines = (x * y).sum(-1, keepdim=True) / (row_length(x) * row_length(y) + eps / power_x / power_y)
    return torch.where(dead, 0.0, cosines).squeeze(-1)


def damped_column_pearson(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], eps: float
) -> Float[Tensor, "*b m"]:
    """Correlation of corresponding columns with eps added to the denominator (DIST); 0 where a column is constant."""
    return damped_row_pearson(student.mT, teacher.mT, eps)
