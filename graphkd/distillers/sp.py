"""Similarity-preserving distillation: samples that are alike for the teacher are alike for the student."""

from typing import ClassVar, final

from graphkd.checks import same_samples, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller
from graphkd.distillers.parts import EachEdgeType, align_within, flat_graph, maps_of, matched, sample_graph
from graphkd.distillers.sizes import MapPairs
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.graph import Graph
from graphkd.registry import unknown
from graphkd.typing import Float, Side, Tensor


@tensor_loss
def similarity_preserving(student: Float[Tensor, "b *any"], teacher: Float[Tensor, "b *other"]) -> Float[Tensor, ""]:
    r"""Similarity-preserving KD: Gram matrices with rows of unit length.

    .. math:: L = \frac{1}{N^2} \lVert \hat G^S - \hat G^T \rVert_F^2, \qquad G = F F^\top

    Paper: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, eqs. 2-4;
    HobbitLong/RepDistiller@b84f547.
    Args:
        student, teacher: maps or embeddings, flattened here; the widths may differ.
    Shapes: (b, ...), (b, ...) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``similarity_preserving(2 * x, x)`` is 0.
    Differs from the official code: the teacher gets no gradient, the result is a scalar, a zero row stays zero.
    """
    same_samples(student, teacher)
    return align_within(student.flatten(1), teacher.flatten(1), "gram", MSE, "unit")


@final
@DISTILLERS.register("sp")
class SPDistiller(Distiller):
    r"""Match the rows of the samples' Gram matrices, each of unit length.

    .. math:: L = w \,\lVert \hat G^S - \hat G^T \rVert_F^2 / N^2, \quad G = F F^T, \quad \hat G_i = G_i / |G_i|

    summed over the pairs of maps.

    Paper: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019.
    Args:
        weight: default 3000.
        on: ``"maps"`` (flattened, default) or ``"embedding"``.
        maps: student's map -> teacher's map; default: all, in order.
    Shapes: maps (b, c, h, w), of any size on either side, or embedding (b, d).
    Raises: UnknownNameError, MissingFeatureError without maps.
    Example: ``SPDistiller(maps={"layer4": "layer4"})(student(images), teacher(images)).total``
    Differs from the official code (the form of HobbitLong/RepDistiller@b84f547): the teacher is detached; a zero
    sample has edges 0 and no gradient (there 2.7e9).
    """

    reads_16_bits: ClassVar[bool] = True
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"similarity"})

    def __init__(self, *, weight: float = 3000.0, on: str = "maps", maps: MapPairs = None) -> None:
        super().__init__()
        if on not in ("maps", "embedding"):
            raise unknown("part of the features", on, ["embedding", "maps"])
        self.on, self.pairs, self.relates_maps = on, maps, on == "maps"
        self.terms = self.weighted_terms(similarity=(weight, EachEdgeType(MSE)))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps."""
        if self.on == "embedding":
            return student, teacher
        return matched(student, teacher, self.pairs, "maps", "SP")

    def build(self, features: Features, side: Side) -> Graph:
        """Samples and their similarities, one node type for each map."""
        graph = flat_graph(maps_of(features)) if self.on == "maps" else sample_graph(features, "embedding", "SP")
        for name in graph.node_types:
            graph.connect(name, "gram", name, normalise="unit")
        return graph
