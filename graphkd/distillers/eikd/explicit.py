"""What EIKD's explicit term compares: features in the teacher's space, or maps; and weights that set themselves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import smooth_l1_loss

from graphkd import ops
from graphkd.checks import same_embeddings, tensor_loss
from graphkd.distillers.adapters import MAP_ADAPTERS, adapt
from graphkd.distillers.base import Pair, Term, mean_over_batch
from graphkd.distillers.parts import maps_of, matched_maps, same_samples
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import OptionError, ShapeError
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.graph import Graph
from graphkd.losses import Losses
from graphkd.registry import Registry
from graphkd.typing import Float, Side, Tensor

EXPLICIT: Registry[Term] = Registry("explicit target")


@tensor_loss
def explicit_features(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""EIKD's explicit term: the squared distance of the embeddings, which the distiller scales to unit length first.

    .. math:: L = \mathrm{mean}_i \lVert h^S_i - h^T_i \rVert^2

    EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.
    Shapes: (b, d) twice, the student's projected where the widths differ -> scalar.
    Raises: ShapeError for other samples or widths.
    Example: ``explicit_features(torch.zeros(1, 2), torch.ones(1, 2))`` is 2.
    """
    same_embeddings(student, teacher)
    return mean_over_batch(_squares(student, teacher))


@dataclass(frozen=True)
class FeatureDistance:
    """Mean over samples of a distance of ``sample`` nodes.

    Args:
        distance: of each sample's features.

    Shapes: (b, d) twice -> (b,).
    """

    distance: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """The mean over all ranks."""
        return mean_over_batch(self.distance(*same_samples(pair, "features")))


def _squares(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    return (student - teacher).square().sum(-1)


def _unit_squares(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    return _squares(ops.unit_rows(student), ops.unit_rows(teacher))


def _smooth_l1(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    return smooth_l1_loss(student, teacher, reduction="none").sum(-1)


EXPLICIT.register("features")(FeatureDistance(_squares))
EXPLICIT.register("unit_features")(FeatureDistance(_unit_squares))
EXPLICIT.register("smooth_l1")(FeatureDistance(_smooth_l1))


@EXPLICIT.register("maps")
def map_distance(pair: Pair) -> Float[Tensor, ""]:
    """Mean squared difference of maps, summed over their pairs."""
    names = [name for name in pair.student.node_types if name.startswith("map")]
    return torch.stack([MSE(pair.student[name].x, pair.teacher[name].x) for name in names]).sum()


class FeatureNodes(nn.Module):
    """``sample`` nodes: the student's embedding by g to the teacher's width, the teacher's as it is.

    Args:
        student_dim, teacher_dim: widths; g is the identity where they agree, else linear.
    """

    def __init__(self, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.student_dim = student_dim
        self.project = nn.Identity() if student_dim == teacher_dim else nn.Linear(student_dim, teacher_dim)

    def add(self, graph: Graph, features: Features, side: Side) -> None:
        """Add the nodes. Raises: ShapeError for a student embedding of another width."""
        embedding = features.tensor("embedding", "EIKD")
        if side == "student":
            if embedding.shape[-1] != self.student_dim:
                raise ShapeError(
                    f"EIKD was built for student embeddings of width {self.student_dim}, found {embedding.shape[-1]}: "
                    "EIKDDistiller.between(student, teacher) sizes itself"
                )
            embedding = self.project(embedding)
        graph.add("sample", embedding)


class MapNodes(nn.Module):
    """``map0``, ``map1``, ... nodes: channels by position, the student's by a 1x1 convolution to the teacher's number.

    Args:
        channels: (student's, teacher's) of each pair.
        pairs: student's map -> teacher's map, or ``None``: in order.
    """

    def __init__(self, channels: Sequence[tuple[int, int]], pairs: MapPairs) -> None:
        super().__init__()
        self.pairs = pairs
        self.adapters = nn.ModuleList(MAP_ADAPTERS.get("conv")(*each) for each in channels)

    def match(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps only, in one size."""
        return matched_maps(student, teacher, self.pairs, "EIKD")

    def add(self, graph: Graph, features: Features, side: Side) -> None:
        """Add the nodes."""
        maps = adapt(self.adapters, features, "EIKD") if side == "student" else maps_of(features)
        for i, each in enumerate(maps):
            graph.add(f"map{i}", each.flatten(2), "image")


class AutoScale(nn.Module):
    r"""Brings terms to the size that the KD term has in the first training batch, then leaves the factors as they are.

    .. math:: L = w_{KD} L_{KD} + \sum_t w_t s_t L_t, \quad s_t = L_{KD} / L_t

    with :math:`s_t` of the first batch where both are finite and > 0.
    The factors are a buffer: they are saved with the distiller, and nothing is read on the host.

    Args:
        prefix: name of the distiller.
        terms: its table; ``explicit`` and ``implicit`` are scaled, as far as they are there.

    Raises: OptionError without a KD term.
    """

    scales: Tensor

    def __init__(self, prefix: str, terms: Mapping[str, tuple[float, Term]]) -> None:
        super().__init__()
        if "kd" not in terms:
            raise OptionError("auto_weights scales the other terms to the KD term: it needs kd_weight > 0")
        self.reference, self.weight = f"{prefix}/kd", terms["kd"][0]
        self.weights = {f"{prefix}/{name}": terms[name][0] for name in ("explicit", "implicit") if name in terms}
        self.register_buffer("scales", torch.zeros(len(self.weights)))  # 0: not known yet

    def forward(self, losses: Losses) -> Losses:
        """The same terms, scaled."""
        if self.training and self.weights:
            self._learn(losses[self.reference].detach() / self.weight, losses)
        factors = torch.where(self.scales > 0, self.scales, 1.0)
        scaled = {each: losses[each] * factors[i].to(losses[each].dtype) for i, each in enumerate(self.weights)}
        return Losses({**losses, **scaled})

    @torch.no_grad()
    def _learn(self, reference: Tensor, losses: Losses) -> None:
        found = torch.stack([reference * weight / losses[each].detach() for each, weight in self.weights.items()])
        usable = (self.scales == 0) & torch.isfinite(found) & (found > 0)
        self.scales.copy_(torch.where(usable, found.to(self.scales.dtype), self.scales))
