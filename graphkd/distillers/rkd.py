"""Relational knowledge distillation: distances of pairs and angles of triplets of samples."""

from typing import ClassVar, final

from graphkd import distributed, ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import sample_graph
from graphkd.distillers.terms import EdgeTerm
from graphkd.features import Features
from graphkd.graph import Graph
from graphkd.typing import Float, Side, Tensor


@final
@DISTILLERS.register("rkd")
class RKDDistiller(Distiller):
    r"""Match the distances of all pairs and the angles of all triplets of samples.

    .. math::
        L = w_d\, \mathrm{mean}_{ij}\, h\big(\psi^S_{ij} - \psi^T_{ij}\big)
          + w_a\, \mathrm{mean}_{ijk}\, h\big(a^S_{ijk} - a^T_{ijk}\big)

    with h the smooth L1, :math:`\psi_{ij} = |f_i - f_j| / \mu`, :math:`\mu` the mean of the positive distances, and
    :math:`a_{ijk} = \cos\angle(f_j - f_i, f_k - f_i)`. Means run over all N^2 pairs and N^3 triplets.

    Paper: Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019.
    Args:
        distance_weight: default 25; 0 removes the term.
        angle_weight: default 50; 0 removes the term.
    Shapes: embedding (b, d) and (b, any); time and memory of the angle term grow with b^3, not with d.
    Raises: MissingFeatureError without embeddings.
    Example: ``RKDDistiller(angle_weight=0.0)(student(images), teacher(images)).total``
    Differs from the official code (lenscloth/RKD@0a6c3c0): equal samples are at distance 0 instead of 1e-6, their
    angles are 0, and neither has a gradient (there up to 1.2e7).
    """

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"distance", "angle"})

    def __init__(self, *, distance_weight: float = 25.0, angle_weight: float = 50.0) -> None:
        super().__init__()
        self.terms = self.table(
            distance=(distance_weight, EdgeTerm(("sample", "euclidean", "sample"), "huber")),
            angle=(angle_weight, _angle),
        )

    def build(self, features: Features, side: Side) -> Graph:
        """Samples and their distances, in units of the mean distance."""
        graph = sample_graph(features, "embedding", "RKD")
        return graph.connect("sample", "euclidean", "sample", normalise="mean")


def _angle(pair: Pair) -> Float[Tensor, ""]:
    student, teacher = (graph.edges("sample", "euclidean", "sample") for graph in (pair.student, pair.teacher))
    first, everyone = student.offset, len(student.target)
    mine = ops.rkd_angle(student.target, teacher.target, first, first + len(student.source))
    return distributed.total(mine) / everyone**3
