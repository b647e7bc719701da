"""FitNet: the student's maps, adapted to the teacher's channels, follow the teacher's maps."""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import nn

from graphkd.distillers.adapters import MAP_ADAPTERS, adapt
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import channel_graph, maps_of, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@final
@DISTILLERS.register("fitnet")
class FitNetDistiller(Distiller):
    r"""Match the teacher's maps themselves.

    .. math:: L = w\, \mathrm{mean} \big(\phi(F^S) - F^T\big)^2, \quad
        \phi = \mathrm{ReLU} \circ \mathrm{BN} \circ \mathrm{conv}

    summed over the pairs of maps. As a graph: nodes without edges.

    Paper: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015.
    Args:
        channels: (student's, teacher's) channels of each pair of maps.
        weight: default 100.
        maps: student's map -> teacher's map; default: all, in order.
        adapter: ``"conv_bn_relu"`` (1x1, default), ``"conv_bn"``, ``"conv"``, or ``"none"`` for equal channels.
    Shapes: maps (b, c, h, w); where heights and widths differ, the larger is averaged to the smaller.
    Raises: ShapeError for other channels, UnknownNameError.
    Example: ``FitNetDistiller.between(student(images), teacher(images), maps={"layer2": "layer2"})``
    Differs from the official code (the form of HobbitLong/RepDistiller@b84f547): maps of different sizes are averaged,
    there the convolution has a stride or a larger kernel. The adapter's BatchNorm sees one rank's batch unless it is
    made a SyncBatchNorm.
    """

    global_batch: ClassVar[str] = "per_image"
    sized_by: ClassVar[tuple[str, ...]] = ("channels",)

    def __init__(
        self,
        channels: Sequence[tuple[int, int]],
        *,
        weight: float = 100.0,
        maps: MapPairs = None,
        adapter: str = "conv_bn_relu",
    ) -> None:
        super().__init__()
        make, self.pairs = MAP_ADAPTERS.get(adapter), maps
        self.adapters = nn.ModuleList(make(student, teacher) for student, teacher in channels)
        self.terms = self.table(hint=(weight, _hint))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        return matched_maps(student, teacher, self.pairs, "FitNet")

    def build(self, features: Features, side: Side) -> Graph:
        """Channels by their values at each position."""
        return channel_graph(adapt(self.adapters, features, "FitNet") if side == "student" else maps_of(features))


def _hint(pair: Pair) -> Float[Tensor, ""]:
    return torch.stack([MSE(pair.student[name].x, pair.teacher[name].x) for name in pair.student.node_types]).sum()
