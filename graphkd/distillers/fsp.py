"""Flow of solution procedure: how the channels of one map relate to those of the next."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, final

import torch

from graphkd import ops
from graphkd.checks import same_maps, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller
from graphkd.distillers.parts import EachEdgeType, maps_of, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import ShapeError
from graphkd.features import Features
from graphkd.graphs.align import align
from graphkd.graphs.alignments import MSE
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.edges import Edges
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


def mean_product(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Inner product of two channels, mean over positions."""
    return ops.gram(x, y) / x.shape[-1]


@tensor_loss
def fsp(
    student_maps: Sequence[Float[Tensor, "b c h w"]], teacher_maps: Sequence[Float[Tensor, "b c h w"]]
) -> Float[Tensor, ""]:
    r"""Flow of solution procedure: Gram matrices between consecutive maps.

    .. math:: L = \sum_l \mathrm{MSE}(G^S_l, G^T_l), \qquad G_{ji} = \mathrm{mean}_p F^{l}_{ip} F^{l+1}_{jp}

    Paper: Yim et al., "A Gift from Knowledge Distillation", CVPR 2017, eqs. 1-2; HobbitLong/RepDistiller@b84f547, which
    uses it before training proper.
    Args:
        student_maps, teacher_maps: two or more maps in the order of depth; of two that follow each other the larger is
            pooled to the smaller.
    Shapes: each (b, c, h, w), channels of a pair equal on both sides -> scalar.
    Raises: ShapeError for other samples, channels or numbers of maps, or fewer than two.
    Example: ``fsp([first, second], [first, second])`` is 0.

    The loss is a fourth power of the features, its gradient a third: features of some 1000 overflow float16 gradients.
    """
    if len(student_maps) != len(teacher_maps) or len(student_maps) < 2:
        raise ShapeError(
            f"FSP compares two or more consecutive maps, found {len(student_maps)} of the student and "
            f"{len(teacher_maps)} of the teacher: give both networks' maps of the same depths"
        )
    for student, teacher in zip(student_maps, teacher_maps, strict=True):
        same_maps(student, teacher, channels=True)
    flows = zip(_flows(student_maps), _flows(teacher_maps), strict=True)
    return torch.stack([align(*each, MSE) for each in flows]).sum()


def _flows(maps: Sequence[Tensor]) -> list[Edges]:
    return [Edges(*_channels(*each), mean_product) for each in pairwise(maps)]


def _channels(lower: Tensor, upper: Tensor) -> tuple[Float[Tensor, "b c p"], Float[Tensor, "b k p"]]:
    lower, upper = to_smaller(lower, upper)
    return lower.flatten(2), upper.flatten(2)


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
        self.terms = self.weighted_terms(flow=(weight, EachEdgeType(MSE)))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size."""
        student, teacher = matched_maps(student, teacher, self.pairs, "FSP")
        if len(maps_of(student)) < 2:
            raise ShapeError("FSP relates each map to the next: it needs two maps or more, found 1")
        for s, t in zip(maps_of(student), maps_of(teacher), strict=True):
            same_maps(s, t, channels=True)
        return student, teacher

    def build(self, features: Features, side: Side) -> Graph:
        """Channels of each map and of the next, and their inner products."""
        graph = Graph()
        for i, (lower, upper) in enumerate(pairwise(maps_of(features))):
            lower, upper = _channels(lower, upper)
            graph.add(f"lower{i}", lower, "image").add(f"upper{i}", upper, "image")
            graph.connect(f"lower{i}", mean_product, f"upper{i}")
        return graph
