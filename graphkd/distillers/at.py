"""Attention transfer: where in the image a map is active."""

from typing import ClassVar, final

from graphkd import ops
from graphkd.checks import same_maps, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller
from graphkd.distillers.parts import EachNodeType, maps_of, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import OptionError
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@tensor_loss
def attention_transfer(
    student_maps: Float[Tensor, "b c h w"], teacher_maps: Float[Tensor, "b k h2 w2"]
) -> Float[Tensor, ""]:
    r"""Attention transfer: where the energy of a map lies.

    .. math:: L = \mathrm{mean}_{bp} (Q^S_{bp} - Q^T_{bp})^2, \qquad Q_b = \mathrm{unit}(\mathrm{mean}_c F_{bc}^2)

    Paper: Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017, eq. 2;
    HobbitLong/RepDistiller@b84f547, p = 2.
    Args:
        student_maps, teacher_maps: any channels; the larger is pooled to the smaller.
    Shapes: (b, c, h, w), (b, k, h2, w2) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``attention_transfer(2 * maps, maps)`` is 0.
    """
    same_maps(student_maps, teacher_maps)
    student, teacher = to_smaller(student_maps, teacher_maps)
    return MSE(_attention(student, 2), _attention(teacher, 2))


def _attention(maps: Float[Tensor, "b c h w"], power: int) -> Float[Tensor, "b p"]:
    return ops.unit_rows(maps.pow(power).mean(1).flatten(1))


@final
@DISTILLERS.register("at")
class ATDistiller(Distiller):
    r"""Match the mean power of a map at each position.

    .. math:: L = w\, \mathrm{mean}_{b,p} (Q^S_{bp} - Q^T_{bp})^2, \quad
        Q = q / |q|, \quad q_p = \mathrm{mean}_c F_{cp}^k

    summed over the pairs of maps. As a graph: the edges from an image to its positions are Q.

    Paper: Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017.
    Args:
        weight: default 1000.
        power: k, an even number >= 2; default 2.
        maps: student's map -> teacher's map; default: all, in order.
    Shapes: maps (b, c, h, w), any channels; heights and widths are averaged to the smaller.
    Raises: OptionError for an odd power, MissingFeatureError without maps.
    Example: ``ATDistiller(maps={"layer4": "layer4"})(student(images), teacher(images)).total``
    Differs from the official code (the form of HobbitLong/RepDistiller@b84f547): odd powers, which it takes without
    absolute value, are refused.
    """

    global_batch: ClassVar[str] = "per_image"
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"attention"})

    def __init__(self, *, weight: float = 1000.0, power: int = 2, maps: MapPairs = None) -> None:
        super().__init__()
        if power < 2 or power % 2:
            raise OptionError(f"the power of an attention map is an even number >= 2, found {power}")
        self.power, self.pairs = power, maps
        self.terms = self.weighted_terms(attention=(weight, EachNodeType(MSE)))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        return matched_maps(student, teacher, self.pairs, "AT")

    def build(self, features: Features, side: Side) -> Graph:
        """Images by their attention over positions, one node type for each map."""
        graph = Graph()
        for i, each in enumerate(maps_of(features)):
            graph.add(f"image{i}", _attention(each, self.power))
        return graph
