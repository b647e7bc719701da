"""The k nearest neighbours of each node, by squared distance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphkd_kernels.reference.distances import squared_distances

__all__ = ["knn", "knn_graph"]


def knn(x: Float[Tensor, "n d"], k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows, nearest first."""
    distances = squared_distances(x, x).fill_diagonal_(float("inf"))
    values, indices = distances.topk(k, dim=-1, largest=False)
    return indices, values


def knn_graph(x: Float[Tensor, "n d"], k: int) -> tuple[Int[Tensor, "2 e"], Float[Tensor, " e"]]:
    """The k nearest neighbours as edges that point to their node, nearest first, and squared distances.

    In PyG's format: ``edge_index[0]`` is the neighbour, ``edge_index[1]`` the node; sorted by node.
    """
    return as_edges(*knn(x, k))


def as_edges(indices: Int[Tensor, "n k"], squares: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
    """Neighbours (n, k) in PyG's format: edges (2, n k), and their squared distances (n k)."""
    nodes = torch.arange(len(indices), device=indices.device).repeat_interleave(indices.shape[1])
    return torch.stack([indices.flatten(), nodes]), squares.flatten()
