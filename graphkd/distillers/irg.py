"""Instance relationship graph: samples, their distances, and how both change from one layer to the next."""

from typing import ClassVar, final

from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.parts import maps_of, matched, same_samples, sample_graph
from graphkd.distillers.sizes import MapPairs
from graphkd.distillers.terms import EdgeTerm
from graphkd.errors import ShapeError
from graphkd.features import Features
from graphkd.functional.instances import known_vertices
from graphkd.graphs.alignments import MSE
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.edges import NORMALISERS
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor

_KINDS = ("feature", "map0", "map1")


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
        self.terms = self.table(
            vertex=(vertex_weight, _vertex), **edges, transformation=(transformation_weight, _transformation)
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
    neighbours = upper.view(len(upper), channels, deeper // channels, *upper.shape[2:])
    return (lower - neighbours.mean(2)).flatten(1)


def _vertex(pair: Pair) -> Float[Tensor, ""]:
    return MSE(*known_vertices(*same_samples(pair, "logits")))


def _transformation(pair: Pair) -> Float[Tensor, ""]:
    by_largest = NORMALISERS.get("max")
    student, teacher = (by_largest(graph["change"].x.square().sum(-1)) for graph in (pair.student, pair.teacher))
    return mean_over_batch((student - teacher).square())
