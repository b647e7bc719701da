"""Inter-channel correlation: the channels of a map relate to each other as the teacher's do."""

from collections.abc import Sequence
from typing import ClassVar, final

from torch import nn

from graphkd.checks import same_maps, tensor_loss
from graphkd.distillers.adapters import ADAPTERS, adapt
from graphkd.distillers.base import DISTILLERS, Distiller
from graphkd.distillers.parts import EachEdgeType, align_within, channel_graph, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.features import Features
from graphkd.graphs.alignments import ROW_SQUARES
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@tensor_loss
def ickd(student_maps: Float[Tensor, "b c h w"], teacher_maps: Float[Tensor, "b c h2 w2"]) -> Float[Tensor, ""]:
    r"""Inter-channel correlation: Gram matrices of an image's channels, rows of unit length.

    .. math:: L = \frac{1}{BC} \sum_b \lVert \hat G^S_b - \hat G^T_b \rVert_F^2, \qquad G = F F^\top \in R^{C \times C}

    Paper: Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation", ICCV 2021;
    ADLab-AutoDrive/ICKD@04e1d3e.
    Args:
        student_maps, teacher_maps: of equal channels; the larger is pooled to the smaller.
    Shapes: (b, c, h, w), (b, c, h2, w2) -> scalar.
    Raises: ShapeError for other samples or channels.
    Example: ``ickd(2 * maps, maps)`` is 0.
    Differs from the official code: its 1x1 convolution on the student is the caller's; maps of other sizes are pooled.
    """
    same_maps(student_maps, teacher_maps, channels=True)
    student, teacher = to_smaller(student_maps, teacher_maps)
    return align_within(student.flatten(2), teacher.flatten(2), "gram", ROW_SQUARES, "unit")


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
        make, self.channels, self.pairs = ADAPTERS.get(adapter), channels, maps
        self.adapters = nn.ModuleList(make(student, teacher) for student, teacher in channels)
        self.terms = self.weighted_terms(correlation=(weight, EachEdgeType(ROW_SQUARES)))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        return matched_maps(student, teacher, self.pairs, "ICKD")

    def build(self, features: Features, side: Side) -> Graph:
        """Channels and their inner products over positions."""
        graph = channel_graph(adapt(self.adapters, self.channels, features, side, "ICKD"))
        for name in graph.node_types:
            graph.connect(name, "gram", name, normalise="unit")
        return graph
