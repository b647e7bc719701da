"""Channels of a feature map as nodes: how two maps are brought to one size, and how channels are related."""

from typing import NamedTuple

import torch
from torch.nn.functional import adaptive_avg_pool2d

from graphkd import ops
from graphkd.graphs.edges import NORMALISERS, Edges, Normalise
from graphkd.graphs.relations import RELATIONS, Relation, name_of
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor


def to_smaller(
    first: Float[Tensor, "b c y x"], second: Float[Tensor, "b d y2 x2"], cap: int | None = None
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b d h w"]]:
    """Two maps, averaged to the smaller height and the smaller width of both, ``cap`` at most; default no limit."""
    h, w = (min(a, b, cap or a) for a, b in zip(first.shape[2:], second.shape[2:], strict=True))
    first, second = (x if x.shape[2:] == (h, w) else adaptive_avg_pool2d(x, (h, w)) for x in (first, second))
    return first, second


class Affinity(NamedTuple):
    """A relation of channels and, where the method has one, the rule that normalises its matrix."""

    relation: Relation
    normalise: Normalise | None = None

    def within(self, nodes: Float[Tensor, "*b c n"]) -> Edges:
        """The edges of nodes among themselves."""
        return Edges(nodes, nodes, self.relation, self.normalise, name=name_of(self.relation))


def median_rbf(x: Float[Tensor, "*b c n"], y: Float[Tensor, "*b c n"]) -> Float[Tensor, "*b c c"]:
    r""":math:`\exp(-d_{ij}^2 / 2 \sigma^2)`, sigma the graph's own median distance, a constant to the gradient."""
    squared = ops.squared_distances(x, y)
    n = squared.shape[-1]
    others = squared.detach() + torch.diag(squared.new_full((n,), torch.inf))
    width = others.flatten(-2).kthvalue((n * (n - 1) + 1) // 2 or 1).values[..., None, None]
    return (-squared / (2 * torch.where(width > 0, width, 1.0))).exp()


AFFINITIES: Registry[Affinity] = Registry("channel affinity")
AFFINITIES.register("cosine")(Affinity(RELATIONS.get("cosine")))
AFFINITIES.register("pearson")(Affinity(RELATIONS.get("pearson")))
AFFINITIES.register("unit_gram")(Affinity(RELATIONS.get("gram"), NORMALISERS.get("unit")))  # ICKD
AFFINITIES.register("rbf")(Affinity(median_rbf))
