r"""Edges of two networks compared, summed over all entries: :math:`\sum_{ij} \rho(e^S_{ij} - e^T_{ij})`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from graphkd_kernels.precision import widened
from graphkd_kernels.reference.similarity import Nodes, Targets, similarity

__all__ = ["edge_sum"]


def penalty_sum(difference: Tensor, penalty: str) -> Float[Tensor, ""]:
    """Sum of squares ("square"), or of smooth-L1 values, quadratic up to 1 ("huber")."""
    if penalty == "huber":
        return smooth_l1_loss(difference, torch.zeros_like(difference), reduction="sum")
    assert penalty == "square", penalty
    return difference.square().sum()


@widened
def edge_sum(
    xs: Nodes, ys: Targets, xt: Nodes, yt: Targets, relation: str, penalty: str, gamma: float = 1.0
) -> Float[Tensor, ""]:
    """Sum over all entries of penalty(relation of students - relation of teachers); the widths may differ."""
    return penalty_sum(similarity(xs, ys, relation, gamma) - similarity(xt, yt, relation, gamma), penalty)
