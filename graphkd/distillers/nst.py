"""Neuron selectivity transfer: the channels of both networks as two samples of one distribution."""

from typing import ClassVar, final

import torch

from graphkd import ops
from graphkd.checks import same_maps, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, mean_over_batch
from graphkd.distillers.parts import EachNodeType, channel_graph, maps_of, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.features import Features
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@tensor_loss
def nst(student_maps: Float[Tensor, "b c h w"], teacher_maps: Float[Tensor, "b k h2 w2"]) -> Float[Tensor, ""]:
    r"""Neuron selectivity transfer: maximum mean discrepancy of the channels' activation patterns.

    .. math:: L = \overline{k(T, T)} + \overline{k(S, S)} - 2\, \overline{k(S, T)}, \qquad k(a, b) = \cos(a, b)^2

    Paper: Huang, Wang, "Like What You Like", arXiv 1707.01219, eq. 10 (polynomial kernel);
    HobbitLong/RepDistiller@b84f547.
    Args:
        student_maps, teacher_maps: any channels; the larger is pooled to the smaller.
    Shapes: (b, c, h, w), (b, k, h2, w2) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``nst(maps, maps.flip(1))`` is 0: the order of channels does not matter.
    """
    same_maps(student_maps, teacher_maps)
    student, teacher = to_smaller(student_maps, teacher_maps)
    return _discrepancy(ops.unit_rows(student.flatten(2)), ops.unit_rows(teacher.flatten(2)))


@final
@DISTILLERS.register("nst")
class NSTDistiller(Distiller):
    r"""Match the distribution of the channels' activation patterns (maximum mean discrepancy).

    .. math:: L = w \big(\overline{k(T, T)} + \overline{k(S, S)} - 2\, \overline{k(S, T)}\big), \quad
        k(a, b) = \langle \hat a, \hat b \rangle^2

    means over the pairs of channels of an image and over images, summed over the pairs of maps. The numbers of channels
    may differ, and their order does not matter.

    Paper: Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017.
    Args:
        weight: default 50.
        maps: student's map -> teacher's map; default: all, in order.
    Shapes: maps (b, c, h, w), any channels; heights and widths are averaged to the smaller.
    Raises: MissingFeatureError without maps.
    Example: ``NSTDistiller(maps={"layer4": "layer4"})(student(images), teacher(images)).total``
    Differs from the official code (the form of HobbitLong/RepDistiller@b84f547): a dead channel has no gradient.
    """

    global_batch: ClassVar[str] = "per_image"
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"selectivity"})

    def __init__(self, *, weight: float = 50.0, maps: MapPairs = None) -> None:
        super().__init__()
        self.pairs = maps
        self.terms = self.weighted_terms(selectivity=(weight, EachNodeType(_discrepancy)))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        return matched_maps(student, teacher, self.pairs, "NST")

    def build(self, features: Features, side: Side) -> Graph:
        """Channels of unit length over the positions."""
        graph = channel_graph(maps_of(features))
        for name in graph.node_types:
            graph.add(name, ops.unit_rows(graph[name].x), "image")
        return graph


def _discrepancy(student: Float[Tensor, "b c n"], teacher: Float[Tensor, "b c2 n"]) -> Float[Tensor, ""]:
    pairs = ((teacher, teacher, 1), (student, student, 1), (student, teacher, -2))
    kernels = [sign * ops.gram(x, y).square().mean((-2, -1)) for x, y, sign in pairs]
    return mean_over_batch(torch.stack(kernels).sum(0))
