"""Relational KD: distances of pairs, angles of triplets."""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.diagonal import diagonal
from graphkd_kernels.reference.pairs import pair_squares
from graphkd_kernels.reference.rows import safe_sqrt


def rkd_distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """|x_i - x_j| divided by the mean of the positive ones; a single row has distance 0."""
    distances = safe_sqrt(pair_squares(x))
    pairs = max(len(x) * (len(x) - 1), 1)  # off the diagonal all are positive: at least 1e-6
    mean = distances.sum() / pairs
    return distances / torch.where(mean == 0, 1.0, mean)


def rkd_distance(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean smooth-L1 difference of all n^2 distances, each side divided by its mean distance."""
    return torch.nn.functional.smooth_l1_loss(rkd_distances(student), rkd_distances(teacher))


def rkd_angles(x: Float[Tensor, "n d"], first: int, last: int) -> Float[Tensor, "m n n"]:
    """cos of the angle at node i between nodes j and k, for i in [first, last); 0 where two nodes coincide.

    From the Gram matrix: <x_j - x_i, x_k - x_i> = g_jk - g_ij - g_ik + g_ii, without the feature dimension.
    """
    x = x - x.mean(dim=0, keepdim=True).detach()
    products = x @ x.mT
    sizes, own = diagonal(products), products[first:last]
    squares = sizes[first:last, None] + sizes - 2 * own
    rounding = 4 * torch.finfo(x.dtype).eps * (sizes[first:last, None] + sizes)
    coincide = squares.detach() <= rounding.detach()
    inverse = torch.where(coincide, 0.0, torch.where(coincide, 1.0, squares).rsqrt())
    spans = products - own[:, :, None] - own[:, None, :] + sizes[first:last, None, None]
    return spans * inverse[:, :, None] * inverse[:, None, :]


def rkd_angle(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], first: int, last: int) -> Float[Tensor, ""]:
    """Sum of the smooth-L1 differences of all angles at the nodes in [first, last)."""
    angles = rkd_angles(student, first, last), rkd_angles(teacher, first, last)
    return torch.nn.functional.smooth_l1_loss(*angles, reduction="sum")
