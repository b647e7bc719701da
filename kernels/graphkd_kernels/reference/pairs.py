"""Matrices of all pairs of two node sets, and what is picked from them."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphkd_kernels.reference.distances import squared_distances
from graphkd_kernels.reference.rows import center_normalize, safe_sqrt, unit_rows


def gram(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Inner products of the rows of x with those of y."""
    return x @ y.mT


def knn(x: Float[Tensor, "n d"], k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows, nearest first."""
    distances = squared_distances(x, x).fill_diagonal_(float("inf"))
    values, indices = distances.topk(k, dim=-1, largest=False)
    return indices, values


def unit_gram(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n n"]:
    """Inner products of the rows with each other, each row of the result scaled to unit length (SP, ICKD)."""
    return unit_rows(x @ x.mT)


def pair_squares(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """|x_i - x_j|^2, at least 1e-12 off the diagonal (as RKD and IRG have it; no gradient there) and 0 on it."""
    diagonal = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return torch.where(diagonal, 0.0, squared_distances(x, x).clamp_min(1e-12))


def knn_graph(x: Float[Tensor, "n d"], k: int) -> tuple[Int[Tensor, "2 e"], Float[Tensor, " e"]]:
    """The k nearest neighbours as edges that point to their node, nearest first, and squared distances.

    In PyG's format: ``edge_index[0]`` is the neighbour, ``edge_index[1]`` the node; sorted by node.
    """
    indices, values = knn(x, k)
    nodes = torch.arange(len(x), device=x.device).repeat_interleave(k)
    return torch.stack([indices.flatten(), nodes]), values.flatten()


def similarity(
    x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"] | None, relation: str, gamma: float = 1.0
) -> Float[Tensor, "*b n m"]:
    """A relation by name of all pairs: "gram", "cosine", "pearson", "euclidean", "squared_euclidean" or "rbf"."""
    if relation in ROW_MAPS:
        row_map = ROW_MAPS[relation]
        mapped = row_map(x)
        return gram(mapped, mapped if y is None else row_map(y))
    squares = squared_distances(x, x if y is None else y)
    if relation == "squared_euclidean":
        return squares
    if relation == "euclidean":
        return safe_sqrt(squares)
    assert relation == "rbf", relation
    return (-gamma * squares).exp()


ROW_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "gram": lambda x: x,
    "cosine": unit_rows,
    "pearson": center_normalize,
}
"""Relation -> map of rows whose inner products it is."""
