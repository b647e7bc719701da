"""The k nearest neighbours of each node, by squared distance."""

from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.reference.distances import squared_distances

__all__ = ["knn"]


def knn(x: Float[Tensor, "n d"], k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows, nearest first."""
    distances = squared_distances(x, x).fill_diagonal_(float("inf"))
    values, indices = distances.topk(k, dim=-1, largest=False)
    return indices, values
