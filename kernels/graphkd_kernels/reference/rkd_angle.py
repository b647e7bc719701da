"""Relational KD, angles of triplets: cosines at every node between all pairs of nodes, compared by smooth L1."""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.reference.distances import wide_squares

__all__ = ["rkd_angle"]


def rkd_angles(x: Float[Tensor, "n d"], first: int, last: int) -> Float[Tensor, "m n n"]:
    """cos of the angle at node i between nodes j and k, for i in [first, last); 0 where two nodes coincide.

    From the squared distances q, without the feature dimension: (q_ij + q_ik - q_jk) / (2 |x_i - x_j| |x_i - x_k|).
    """
    half, inverse = angle_sides(x)
    own, inverse = half[first:last], inverse[first:last]
    spans = own[:, :, None] + own[:, None, :] - half
    return (spans * inverse[:, :, None] * inverse[:, None, :]).to(x.dtype)


def angle_sides(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    """Half of the squared distances, and the inverse distances (0 between equal nodes), with the digits angles need.

    A close pair and a far node make a small difference of large numbers: close is what is so beside the largest row.
    """
    squares = wide_squares(x, x, largest=True)
    equal = squares.detach() <= 0  # a NaN is not, and passes
    return squares / 2, torch.where(equal, 0.0, 1 / torch.where(equal, 1.0, squares).sqrt())


def rkd_angle(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], first: int, last: int) -> Float[Tensor, ""]:
    """Sum of the smooth-L1 differences of all angles at the nodes in [first, last)."""
    angles = rkd_angles(student, first, last), rkd_angles(teacher, first, last)
    return torch.nn.functional.smooth_l1_loss(*angles, reduction="sum")
