"""Relational KD, distances of pairs: each network's distances divided by their mean, compared by smooth L1."""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.reference.distances import squared_distances
from graphkd_kernels.reference.rows import safe_sqrt

__all__ = ["rkd_distance"]


def rkd_distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """|x_i - x_j| divided by the mean of the positive ones; a single row has distance 0.

    RKD has squares of at least 1e-12 off the diagonal, without gradient there.
    """
    diagonal = torch.eye(len(x), dtype=torch.bool, device=x.device)
    distances = safe_sqrt(torch.where(diagonal, 0.0, squared_distances(x, x).clamp_min(1e-12)))
    pairs = max(len(x) * (len(x) - 1), 1)  # off the diagonal all are positive: at least 1e-6
    mean = distances.sum() / pairs
    return distances / torch.where(mean == 0, 1.0, mean)


def rkd_distance(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean smooth-L1 difference of all n^2 distances, each side divided by its mean distance; 0 of no node."""
    total = torch.nn.functional.smooth_l1_loss(rkd_distances(student), rkd_distances(teacher), reduction="sum")
    return total / max(len(student) ** 2, 1)
