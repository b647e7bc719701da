"""Relations: pure functions of two node sets that say how strongly each source is related to each target."""

from collections.abc import Callable

import torch

from graphkd import ops
from graphkd.registry import Registry
from graphkd.typing import Bool, Float, Tensor

Relation = Callable[[Tensor, Tensor], Tensor]
RELATIONS: Registry[Relation] = Registry("relation")


@RELATIONS.register
def pearson(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    r"""Correlation of two nodes over their features.

    .. math:: e_{ij} = \langle \hat x_i, \hat y_j \rangle, \quad \hat x = (x - \bar x) / \lVert x - \bar x \rVert

    Paper: Ma, Chen, Akata, "Embedding Graph Alignment", BMVC 2022, eqs. 1-2.
    Args:
        x, y: source and target nodes, any scale.
    Shapes: (*b, n, d), (*b, m, d) -> (*b, n, m), values in [-1, 1].
    Raises: ShapeError if the feature widths differ.
    Example: ``pearson(torch.tensor([[1., 2., 3.]]), torch.tensor([[1., 3., 2.]]))`` is ``[[0.5]]``.
    Differs from the official code (yccm/EGA@0963f8e): there a constant node gives NaN; here its edges are 0 and it
    receives no gradient.
    """
    return _all_pairs(x, y, "pearson")


@RELATIONS.register
def cosine(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    r"""Cosine of the angle between two nodes; a zero node has edges 0 and no gradient.

    .. math:: e_{ij} = \langle x_i, y_j \rangle / (\lVert x_i \rVert \lVert y_j \rVert)

    Shapes: (*b, n, d), (*b, m, d) -> (*b, n, m), values in [-1, 1].
    Raises: ShapeError if the feature widths differ.
    Example: ``cosine(torch.tensor([[3., 4.]]), torch.tensor([[1., 0.]]))`` is ``[[0.6]]``.
    """
    return _all_pairs(x, y, "cosine")


@RELATIONS.register
def gram(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    r"""Inner product of two nodes, :math:`e_{ij} = \langle x_i, y_j \rangle`.

    Shapes: (*b, n, d), (*b, m, d) -> (*b, n, m).
    Raises: ShapeError if the feature widths differ.
    Example: ``gram(torch.tensor([[3., 4.]]), torch.tensor([[1., 2.]]))`` is ``[[11.]]``.
    """
    return _all_pairs(x, y, "gram")


@RELATIONS.register
def euclidean(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    r"""Distance of two nodes, :math:`e_{ij} = \lVert x_i - y_j \rVert`; equal nodes have distance 0 and no gradient.

    Shapes: (*b, n, d), (*b, m, d) -> (*b, n, m), values >= 0.
    Raises: ShapeError if the feature widths differ.
    Example: ``euclidean(torch.tensor([[0., 0.]]), torch.tensor([[3., 4.]]))`` is ``[[5.]]``.
    """
    return _all_pairs(x, y, "euclidean")


@RELATIONS.register
def squared_euclidean(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    r"""Squared distance of two nodes, :math:`e_{ij} = \lVert x_i - y_j \rVert^2`.

    Shapes: (*b, n, d), (*b, m, d) -> (*b, n, m), values >= 0.
    Raises: ShapeError if the feature widths differ.
    Example: ``squared_euclidean(torch.tensor([[0., 0.]]), torch.tensor([[3., 4.]]))`` is ``[[25.]]``.
    """
    return _all_pairs(x, y, "squared_euclidean")


@RELATIONS.register
def rbf(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"], gamma: float = 1.0) -> Float[Tensor, "*b n m"]:
    r"""Gaussian affinity, :math:`e_{ij} = \exp(-\gamma \lVert x_i - y_j \rVert^2)`.

    Args:
        x, y: source and target nodes.
        gamma: inverse squared width, > 0; default 1.
    Shapes: (*b, n, d), (*b, m, d) -> (*b, n, m), values in [0, 1].
    Raises: ShapeError if the feature widths differ.
    Example: ``rbf(torch.tensor([[0.]]), torch.tensor([[1.]]))`` is ``[[exp(-1)]]``.
    """
    return _all_pairs(x, y, "rbf", gamma)


def itself(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], first: int) -> Bool[Tensor, "n m"]:
    """Where a source is its own target; ``first``: place of the first source among the targets."""
    own = torch.arange(first, first + len(x), device=x.device)
    return own.unsqueeze(1) == torch.arange(len(y), device=x.device)


def name_of(relation: Relation) -> str:
    """The name that a relation is registered by, if it is one of ours, else empty."""
    name = getattr(relation, "__name__", "")
    return name if name in RELATIONS and RELATIONS.get(name) is relation else ""


def is_pairwise(relation: Relation) -> bool:
    """Whether an edge depends on its own two nodes alone, so that rows of the matrix can be computed by themselves.

    True for ours, and for a relation that says so by an attribute ``pairwise``.
    """
    return bool(name_of(relation)) or getattr(relation, "pairwise", False)


def _all_pairs(x: Tensor, y: Tensor, relation: str, gamma: float = 1.0) -> Tensor:
    return ops.similarity(x, None if x is y else y, relation, gamma)  # of one node set, each row is mapped once
