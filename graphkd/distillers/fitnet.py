"""FitNet: the student's maps, adapted to the teacher's channels, follow the teacher's maps."""

from collections.abc import Sequence
from typing import ClassVar, final

from torch import nn

from graphkd.checks import same_samples, same_shape, tensor_loss
from graphkd.distillers.adapters import ADAPTERS, adapt
from graphkd.distillers.base import DISTILLERS, Distiller
from graphkd.distillers.parts import EachNodeType, channel_graph, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@tensor_loss
def fitnet(student_maps: Float[Tensor, "b *any"], teacher_maps: Float[Tensor, "b *any"]) -> Float[Tensor, ""]:
    r"""FitNet's hint: the mean squared difference of two features of any one shape.

    .. math:: L = \mathrm{mean}\, (F^S - F^T)^2

    Paper: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, eq. 3; HobbitLong/RepDistiller@b84f547.
    Shapes: (b, ...) twice -> scalar.
    Raises: ShapeError for other shapes.
    Example: ``fitnet(torch.zeros(1, 2), torch.ones(1, 2))`` is 1.
    Differs from the official code: its convolution on the student is the caller's.
    """
    same_samples(student_maps, teacher_maps)
    same_shape(student_maps, teacher_maps, "features", "adapt the student by a convolution or a linear layer")
    return MSE(student_maps, teacher_maps)


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
        make, self.channels, self.pairs = ADAPTERS.get(adapter), channels, maps
        self.adapters = nn.ModuleList(make(student, teacher) for student, teacher in channels)
        self.terms = self.weighted_terms(hint=(weight, EachNodeType(MSE)))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        return matched_maps(student, teacher, self.pairs, "FitNet")

    def build(self, features: Features, side: Side) -> Graph:
        """Channels by their values at each position."""
        return channel_graph(adapt(self.adapters, self.channels, features, side, "FitNet"))
