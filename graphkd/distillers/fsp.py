"""Flow of solution procedure: how the channels of one map relate to those of the next."""

from itertools import pairwise
from typing import ClassVar, final

import torch

from graphkd import ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import maps_of, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import ShapeError
from graphkd.features import Features
from graphkd.graphs.align import align
from graphkd.graphs.alignments import MSE
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


def mean_product(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Inner product of two channels, mean over positions."""
    return ops.gram(x, y) / x.shape[-1]


@final
@DISTILLERS.register("fsp")
class FSPDistiller(Distiller):
    r"""Match the inner products between the channels of consecutive maps.

    .. math:: L = w \sum_l \mathrm{MSE}(G^S_l, G^T_l), \quad
        G_{l,ij} = \mathrm{mean}_p\, F^l_{ip} F^{l+1}_{jp}

    Paper: Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation", CVPR 2017.
    Args:
        weight: default 50.
        maps: student's map -> teacher's map, two or more in the order of depth; default: all, in order.
    Shapes: maps (b, c, h, w), equal channels on both sides; sizes are averaged to the smaller.
    Raises: ShapeError for one map or for different channels.
    Example: ``FSPDistiller(maps={"layer1": "layer1", "layer2": "layer2"})(features, teacher_features).total``
    Differs from the official code (the form of HobbitLong/RepDistiller@b84f547): there it acts in a stage before
    training, here whenever it is given.
    """

    global_batch: ClassVar[str] = "per_image"
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"flow"})

    def __init__(self, *, weight: float = 50.0, maps: MapPairs = None) -> None:
        super().__init__()
        self.pairs = maps
        self.terms = self.table(flow=(weight, _flow))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        student, teacher = matched_maps(student, teacher, self.pairs, "FSP")
        if len(maps_of(student)) < 2:
            raise ShapeError("FSP relates each map to the next: it needs two maps or more, found 1")
        for s, t in zip(maps_of(student), maps_of(teacher), strict=True):
            if s.shape[1] != t.shape[1]:
                raise ShapeError(
                    f"FSP compares channels one by one, found {s.shape[1]} of the student and {t.shape[1]} of the "
                    "teacher: choose maps of equal channels, or NST, which needs none"
                )
        return student, teacher

    def build(self, features: Features, side: Side) -> Graph:
        """Channels of each map and of the next, and their inner products."""
        graph = Graph()
        for i, (lower, upper) in enumerate(pairwise(maps_of(features))):
            lower, upper = to_smaller(lower, upper)
            graph.add(f"lower{i}", lower.flatten(2), "image").add(f"upper{i}", upper.flatten(2), "image")
            graph.connect(f"lower{i}", mean_product, f"upper{i}")
        return graph


def _flow(pair: Pair) -> Float[Tensor, ""]:
    types = pair.student.edge_types
    return torch.stack([align(pair.student.edges(*each), pair.teacher.edges(*each), MSE) for each in types]).sum()
