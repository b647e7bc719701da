"""Similarity-preserving distillation: samples that are alike for the teacher are alike for the student."""

from typing import ClassVar, final

import torch

from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import flat_graph, maps_of, matched, sample_graph
from graphkd.distillers.sizes import MapPairs
from graphkd.features import Features
from graphkd.graphs.align import align
from graphkd.graphs.alignments import MSE
from graphkd.graphs.graph import Graph
from graphkd.registry import unknown
from graphkd.typing import Float, Side, Tensor


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

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"similarity"})

    def __init__(self, *, weight: float = 3000.0, on: str = "maps", maps: MapPairs = None) -> None:
        super().__init__()
        if on not in ("maps", "embedding"):
            raise unknown("part of the features", on, ["embedding", "maps"])
        self.on, self.pairs, self.relates_maps = on, maps, on == "maps"
        self.terms = self.table(similarity=(weight, _similarity))

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


def _similarity(pair: Pair) -> Float[Tensor, ""]:
    types = pair.student.edge_types
    return torch.stack([align(pair.student.edges(*each), pair.teacher.edges(*each), MSE) for each in types]).sum()
