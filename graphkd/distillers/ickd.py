"""Inter-channel correlation: the channels of a map relate to each other as the teacher's do."""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import nn

from graphkd.distillers.adapters import MAP_ADAPTERS, adapt
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import channel_graph, maps_of, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.features import Features
from graphkd.graphs.align import align
from graphkd.graphs.alignments import ROW_SQUARES
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@final
@DISTILLERS.register("ickd")
class ICKDDistiller(Distiller):
    r"""Match the Gram matrices of the channels of each image, with rows of unit length (ICKD-C).

    .. math:: L = \frac{w}{C B} \sum_b \lVert \hat G^S_b - \hat G^T_b \rVert_F^2, \quad
        G = F F^T, \quad F \in R^{C \times HW}

    summed over the pairs of maps; the student passes through an adapter to the teacher's channels.

    Paper: Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation", ICCV 2021.
    Args:
        channels: (student's, teacher's) channels of each pair of maps.
        weight: default 2.5.
        maps: student's map -> teacher's map; default: all, in order.
        adapter: ``"conv_bn"`` (1x1, default), ``"conv"``, ``"conv_bn_relu"``, or ``"none"`` for equal channels.
    Shapes: maps (b, c, h, w); where heights and widths differ, the larger is averaged to the smaller.
    Raises: ShapeError for other channels, UnknownNameError.
    Example: ``ICKDDistiller.between(student(images), teacher(images), maps={"layer4": "layer4"})``
    Differs from the official code (ADLab-AutoDrive/ICKD@04e1d3e): maps of different sizes are averaged; no unused
    teacher embedding. The adapter's BatchNorm sees one rank's batch unless it is made a SyncBatchNorm.
    """

    global_batch: ClassVar[str] = "per_image"
    sized_by: ClassVar[tuple[str, ...]] = ("channels",)

    def __init__(
        self,
        channels: Sequence[tuple[int, int]],
        *,
        weight: float = 2.5,
        maps: MapPairs = None,
        adapter: str = "conv_bn",
    ) -> None:
        super().__init__()
        make, self.pairs = MAP_ADAPTERS.get(adapter), maps
        self.adapters = nn.ModuleList(make(student, teacher) for student, teacher in channels)
        self.terms = self.table(correlation=(weight, _correlation))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        return matched_maps(student, teacher, self.pairs, "ICKD")

    def build(self, features: Features, side: Side) -> Graph:
        """Channels and their inner products over positions."""
        graph = channel_graph(adapt(self.adapters, features, "ICKD") if side == "student" else maps_of(features))
        for name in graph.node_types:
            graph.connect(name, "gram", name, normalise="unit")
        return graph


def _correlation(pair: Pair) -> Float[Tensor, ""]:
    types = pair.student.edge_types
    terms = [align(pair.student.edges(*each), pair.teacher.edges(*each), ROW_SQUARES) for each in types]
    return torch.stack(terms).sum()
