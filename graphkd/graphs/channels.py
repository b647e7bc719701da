r"""Channels of a feature map as nodes: how two maps are brought to one size, and how channels are related."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch.nn.functional import adaptive_avg_pool2d

from graphkd import ops
from graphkd.errors import OptionError, ShapeError
from graphkd.graphs.alignments import ALIGNMENTS, MSE
from graphkd.graphs.attention import Masks
from graphkd.graphs.edges import NORMALISERS, Normalise
from graphkd.graphs.relations import RELATIONS, Relation
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

VertexLoss = Callable[[Tensor, Tensor, Masks], Tensor]
VERTEX_LOSSES: Registry[VertexLoss] = Registry("vertex loss")


def pooled(maps: Float[Tensor, "b c y x"], h: int, w: int) -> Float[Tensor, "b c h w"]:
    """The map averaged to h x w positions; as it is where it has that size."""
    return maps if maps.shape[2:] == (h, w) else adaptive_avg_pool2d(maps, (h, w))


def to_smaller(
    first: Float[Tensor, "b c y x"], second: Float[Tensor, "b d y2 x2"], cap: int | None = None
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b d h w"]]:
    """Two maps, averaged to the smaller height and the smaller width of both, ``cap`` at most; default no limit."""
    h, w = (min(a, b, cap or a) for a, b in zip(first.shape[2:], second.shape[2:], strict=True))
    return pooled(first, h, w), pooled(second, h, w)


class Affinity(NamedTuple):
    """A relation of channels and, where the method has one, the rule that normalises its matrix."""

    relation: Relation
    normalise: Normalise | None = None


def mean_gram(x: Float[Tensor, "*b c n"], y: Float[Tensor, "*b d n"]) -> Float[Tensor, "*b c d"]:
    """Inner product divided by the number of positions."""
    return ops.gram(x, y) / x.shape[-1]


mean_gram.pairwise = True  # type: ignore[attr-defined]


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
AFFINITIES.register("euclidean")(Affinity(RELATIONS.get("euclidean")))
AFFINITIES.register("gram")(Affinity(mean_gram))
AFFINITIES.register("unit_gram")(Affinity(RELATIONS.get("gram"), NORMALISERS.get("unit")))  # ICKD
AFFINITIES.register("rbf")(Affinity(median_rbf))


def _weighted_squares(student: Tensor, teacher: Tensor, masks: Masks) -> Float[Tensor, "b c n"]:
    weight = masks.channel.unsqueeze(-1) * masks.spatial.unsqueeze(-2)
    return weight * (student - teacher).square()


@VERTEX_LOSSES.register("mse")
def vertex_mse(student: Float[Tensor, "b c n"], teacher: Float[Tensor, "b c n"], masks: Masks) -> Float[Tensor, " b"]:
    r""":math:`\frac{1}{CN} \sum_{ip} A^c_i A^s_p (F^S_{ip} - F^T_{ip})^2`."""
    return _weighted_squares(student, teacher, masks).mean((-2, -1))


@VERTEX_LOSSES.register("sum")
def vertex_sum(student: Float[Tensor, "b c n"], teacher: Float[Tensor, "b c n"], masks: Masks) -> Float[Tensor, " b"]:
    """The sum in place of the mean (FGD): its weight must be tiny."""
    return _weighted_squares(student, teacher, masks).sum((-2, -1))


@VERTEX_LOSSES.register("root")
def vertex_root(student: Float[Tensor, "b c n"], teacher: Float[Tensor, "b c n"], masks: Masks) -> Float[Tensor, " b"]:
    """Root of the sum (Zhang and Ma, ICLR 2021)."""
    return ops.safe_sqrt(vertex_sum(student, teacher, masks))


@VERTEX_LOSSES.register("unit")
def vertex_unit(student: Float[Tensor, "b c n"], teacher: Float[Tensor, "b c n"], masks: Masks) -> Float[Tensor, " b"]:
    """Channels scaled to unit length first; sum over positions, mean over channels."""
    return _weighted_squares(ops.unit_rows(student), ops.unit_rows(teacher), masks).sum(-1).mean(-1)


@VERTEX_LOSSES.register("pearson")
def vertex_pearson(
    student: Float[Tensor, "b c n"], teacher: Float[Tensor, "b c n"], masks: Masks
) -> Float[Tensor, " b"]:
    """Channels centred and scaled to unit length first; sum over positions, mean over channels."""
    return _weighted_squares(ops.center_normalize(student), ops.center_normalize(teacher), masks).sum(-1).mean(-1)


def _over_graphs(value: Tensor, rows: Tensor, columns: int) -> Tensor:
    return value * columns / rows


GRAPH_SQUARES = replace(MSE, name="graph_squares", outer=_over_graphs)
"""Squared difference summed over each graph of C x C entries, mean over graphs (FGD's way of reducing)."""
ALIGNMENTS.register("graph_squares")(GRAPH_SQUARES)


def entry_weight(channel: Float[Tensor, "*b c"], diagonal: bool = True) -> Float[Tensor, "*b c c"]:
    """A_i A_j for each edge; without the diagonal the others share its part, so that a mean divides by C(C - 1)."""
    weight = channel.unsqueeze(-1) * channel.unsqueeze(-2)
    if diagonal:
        return weight
    n = channel.shape[-1]
    if n < 2:
        raise OptionError("one channel has no edge to another: keep the diagonal")
    return weight * (1 - torch.eye(n, dtype=channel.dtype, device=channel.device)) * (n / (n - 1))


def same_maps(student: Tensor, teacher: Tensor) -> None:
    """Raises: ShapeError, with the remedy, unless both maps (b, c, h, w) have one shape."""
    if student.shape != teacher.shape:
        raise ShapeError(
            f"student maps {tuple(student.shape)} and teacher maps {tuple(teacher.shape)} differ: pool the larger one "
            "(graphkd.graphs.channels.to_smaller), map the student to the teacher's channels, or use "
            "CRGDistiller, which does both"
        )
