"""Attention transfer: where in the image a map is active."""

from typing import ClassVar, final

import torch

from graphkd import ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import maps_of, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import OptionError
from graphkd.features import Features
from graphkd.graphs.alignments import MSE
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


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
        self.terms = self.table(attention=(weight, _attention))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        return matched_maps(student, teacher, self.pairs, "AT")

    def build(self, features: Features, side: Side) -> Graph:
        """Images by their attention over positions, one node type for each map."""
        graph = Graph()
        for i, each in enumerate(maps_of(features)):
            graph.add(f"image{i}", ops.unit_rows(each.pow(self.power).mean(1).flatten(1)))
        return graph


def _attention(pair: Pair) -> Float[Tensor, ""]:
    return torch.stack([MSE(pair.student[name].x, pair.teacher[name].x) for name in pair.student.node_types]).sum()
