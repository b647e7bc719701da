"""Instance relationship graph: samples, their distances, and how both change from one layer to the next."""

from typing import ClassVar, final

import torch

from graphkd.checks import same_logits, same_samples, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.parts import align_within, maps_of, matched, sample_graph, samples
from graphkd.distillers.sizes import MapPairs
from graphkd.distillers.terms import EdgeTerm
from graphkd.errors import ShapeError
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.edges import NORMALISERS
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor

Maps = tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k h2 w2"]]
_KINDS = ("feature", "map0", "map1")


@tensor_loss
def irg(
    student: Float[Tensor, "b d"],
    teacher: Float[Tensor, "b e"],
    student_maps: Maps,
    teacher_maps: Maps,
    student_logits: Float[Tensor, "b c"] | None = None,
    teacher_logits: Float[Tensor, "b c"] | None = None,
    vertex_weight: float = 0.1,
    edge_weight: float = 5.0,
    transformation_weight: float = 5.0,
) -> Float[Tensor, ""]:
    r"""Instance relationship graph: logits as vertices, distances as edges, change between layers as transformation.

    .. math:: L = w_v \mathrm{MSE}(z^S, z^T) + w_e \tfrac13 \sum_{l} L_{edge}(F_l) + w_t L_{trans}(F_1, F_2)

    Paper: Liu et al., "Knowledge Distillation via Instance Relationship Graph", CVPR 2019;
    AberHu/Knowledge-Distillation-Zoo@65470c8, whose weights these are; in yufanLIU/IRG@0a6837c every term weighs 0.005.
    Args:
        student, teacher: pooled features.
        student_maps, teacher_maps: two maps each, the shallower first.
        student_logits, teacher_logits: without them the vertex term is left out.
        vertex_weight, edge_weight, transformation_weight: defaults 0.1, 5 and 5.
    Shapes: (b, d), (b, e), two maps (b, c, h, w) each, (b, classes) -> scalar.
    Raises: ShapeError for other samples, classes or numbers of maps.
    Example: ``irg(x, x, (first, second), (first, second))`` is 0.
    """
    if len(student_maps) != 2 or len(teacher_maps) != 2:
        raise ShapeError(
            f"IRG compares two maps, found {len(student_maps)} of the student and {len(teacher_maps)} of the teacher: "
            "give the shallower and the deeper"
        )
    pairs = [(student, teacher), *zip(student_maps, teacher_maps, strict=True)]
    edges = torch.stack([irg_edge.over_ranks(*each) for each in pairs]).mean()
    moves = irg_transformation.over_ranks(student_maps, teacher_maps)
    loss = edge_weight * edges + transformation_weight * moves
    if student_logits is None or teacher_logits is None:
        return loss
    return loss + vertex_weight * _vertex(student_logits, teacher_logits)


@tensor_loss
def irg_edge(student: Float[Tensor, "b *any"], teacher: Float[Tensor, "b *other"]) -> Float[Tensor, ""]:
    r"""IRG's edge term: squared distances of samples, relative to the largest.

    .. math:: L = \mathrm{mean}_{ij} (A^S_{ij} - A^T_{ij})^2, \qquad
              A_{ij} = \lVert f_i - f_j \rVert^2 / \max_{kl} \lVert f_k - f_l \rVert^2

    Shapes: (b, ...), (b, ...) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``irg_edge(2 * x, x)`` is 0.
    Differs from the official code: one sample gives 0 (there NaN).
    """
    same_samples(student, teacher)
    return align_within(student.flatten(1), teacher.flatten(1), "squared_euclidean", MSE, "max")


@tensor_loss
def irg_transformation(student_maps: Maps, teacher_maps: Maps) -> Float[Tensor, ""]:
    r"""IRG's transformation term: how far each sample moves from one layer to the next, relative to the largest.

    .. math:: L = \mathrm{mean}_i (t^S_i - t^T_i)^2, \qquad
              t_i = \lVert f^{1}_i - f^{2}_i \rVert^2 / \max_k \lVert f^{1}_k - f^{2}_k \rVert^2

    The larger map is pooled to the smaller; neighbouring channels of the deeper map are averaged to those of the other.

    Shapes: two maps (b, c, h, w) and (b, a multiple of c, h2, w2) on each side -> scalar.
    Raises: ShapeError for other samples, or channels that do not divide.
    Example: ``irg_transformation((first, second), (first, second))`` is 0.
    """
    same_samples(student_maps[0], teacher_maps[0], 4)
    return _transformation(_change(*student_maps), _change(*teacher_maps))


@final
@DISTILLERS.register("irg")
class IRGDistiller(Distiller):
    r"""Match logits, squared distances of samples in three layers, and how far samples move between two of them.

    .. math::
        L = w_v\, \mathrm{MSE}(z^S, z^T) + \tfrac{w_e}{3} \sum_{l} \mathrm{mean}_{ij} (A^S_{ij} - A^T_{ij})^2
          + w_t\, \mathrm{mean}_i (t^S_i - t^T_i)^2

    with :math:`A_{ij} = |f_i - f_j|^2 / \max`, for the embedding and two maps, and :math:`t_i = |m^1_i - m^2_i|^2/\max`
    between the maps: the larger is averaged to the smaller, neighbouring channels of the deeper one are averaged.

    Paper: Liu et al., "Knowledge Distillation via Instance Relationship Graph", CVPR 2019.
    Args:
        vertex_weight, edge_weight, transformation_weight: defaults 0.1, 5 and 5; 0 removes a term.
        maps: student's map -> teacher's map, exactly two, in the order of depth; default: all, in order.
    Shapes: logits (b, c), embedding (b, d), maps (b, c, h, w); the widths of student and teacher may differ.
    Raises: ShapeError unless there are two maps, and the deeper has a multiple of the other's channels.
    Example: ``IRGDistiller(maps={"layer3": "layer3", "layer4": "layer4"})(features, teacher_features).total``
    Differs from the official code (Caffe, yufanLIU/IRG@0a6837c: weight 0.005 on each Euclidean loss, vertices only
    where widths agree): the PyTorch port AberHu/Knowledge-Distillation-Zoo@65470c8 and its weights are followed.
    """

    relates_maps = True
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset(
        {"vertex", "edge_feature", "edge_map0", "edge_map1", "transformation"}
    )

    def __init__(
        self,
        *,
        vertex_weight: float = 0.1,
        edge_weight: float = 5.0,
        transformation_weight: float = 5.0,
        maps: MapPairs = None,
    ) -> None:
        super().__init__()
        self.pairs = maps
        edges = {
            f"edge_{kind}": (edge_weight / 3, EdgeTerm((kind, "squared_euclidean", kind), "mse")) for kind in _KINDS
        }
        self.terms = self.weighted_terms(
            vertex=(vertex_weight, _vertex_term), **edges, transformation=(transformation_weight, _transformation_term)
        )

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the two compared maps."""
        student, teacher = matched(student, teacher, self.pairs, "maps", "IRG")
        if len(maps_of(student)) != 2:
            raise ShapeError(f"IRG compares two maps, found {len(maps_of(student))}: name them, maps={{...}}")
        return student, teacher

    def build(self, features: Features, side: Side) -> Graph:
        """Samples by logits, embedding and two maps, and their change from map to map."""
        lower, upper = maps_of(features)
        graph = sample_graph(features, "logits", "IRG")
        graph.add("feature", features.tensor("embedding", "IRG"))
        graph.add("map0", lower.flatten(1)).add("map1", upper.flatten(1))
        for kind in _KINDS:
            graph.connect(kind, "squared_euclidean", kind, normalise="max")
        return graph.add("change", _change(lower, upper))


def _change(lower: Float[Tensor, "b c h w"], upper: Float[Tensor, "b c2 h2 w2"]) -> Float[Tensor, "b d"]:
    lower, upper = to_smaller(lower, upper)
    channels, deeper = lower.shape[1], upper.shape[1]
    if deeper % channels:
        raise ShapeError(
            f"IRG averages neighbouring channels of the deeper map to those of the other, found {deeper} and "
            f"{channels}: choose maps whose channels divide"
        )
    neighbours = upper.reshape(len(upper), channels, deeper // channels, *upper.shape[2:])
    return (lower - neighbours.mean(2)).flatten(1)


def _vertex(student: Float[Tensor, "b c"], teacher: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Vertices compared; a class that the teacher masks by -inf is 0 in both, no distance."""
    same_logits(student, teacher)
    masked = teacher == -torch.inf
    return MSE(student.masked_fill(masked, 0.0), teacher.masked_fill(masked, 0.0))


def _transformation(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    by_largest = NORMALISERS.get("max")
    moves = (by_largest(change.square().sum(-1)) for change in (student, teacher))
    return mean_over_batch((next(moves) - next(moves)).square())


def _vertex_term(pair: Pair) -> Float[Tensor, ""]:
    return _vertex(*samples(pair))


def _transformation_term(pair: Pair) -> Float[Tensor, ""]:
    return _transformation(pair.student["change"].x, pair.teacher["change"].x)
