"""Relations by name of all pairs of two node sets, as matrices."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.reference.distances import squared_distances
from graphkd_kernels.reference.rows import center_normalize, safe_sqrt, unit_rows

__all__ = ["gram", "similarity"]
Nodes = Float[Tensor, "*b n d"]
Targets = Float[Tensor, "*b m d"] | None


def gram(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Inner products of the rows of x with those of y."""
    return x @ y.mT


def similarity(x: Nodes, y: Targets, relation: str, gamma: float = 1.0) -> Float[Tensor, "*b n m"]:
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
