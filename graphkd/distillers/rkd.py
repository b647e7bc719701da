"""Relational knowledge distillation: distances of pairs and angles of triplets of samples."""

from typing import ClassVar, Final, final

import torch

from graphkd import distributed, ops
from graphkd.checks import same_samples, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import sample_graph
from graphkd.features import Features
from graphkd.graphs.alignments import HUBER
from graphkd.graphs.edges import Edges
from graphkd.graphs.graph import Graph
from graphkd.graphs.relations import euclidean, itself
from graphkd.typing import Float, Side, Tensor

_LEAST: Final = 1e-12  # of the squared distance of two samples


@tensor_loss
def rkd_distance(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    r"""Relational KD of pairs: distances, relative to their mean.

    .. math:: L = \frac{1}{N^2} \sum_{ij} \ell(d^S_{ij} / \mu^S - d^T_{ij} / \mu^T), \qquad
              d_{ij} = \lVert f_i - f_j \rVert

    with :math:`\ell` the smooth-L1 function and :math:`\mu` the mean distance of the pairs.

    Paper: Park et al., "Relational Knowledge Distillation", CVPR 2019, eqs. 5-7; lenscloth/RKD@0a6c3c0.
    Args:
        student, teacher: embeddings; the widths may differ.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``rkd_distance(2 * x, x)`` is 0.
    Differs from the official code: one sample gives 0 (there NaN), equal rows give no gradient (there up to 1e7).
    """
    same_samples(student, teacher, 2)
    return distance_of(Edges(student, student, euclidean), Edges(teacher, teacher, euclidean))


@tensor_loss
def rkd_angle(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    r"""Relational KD of triplets: the angle at every sample between every two others.

    .. math:: L = \frac{1}{N^3} \sum_{ijk} \ell(a^S_{ijk} - a^T_{ijk}), \qquad
              a_{ijk} = \frac{\langle f_j - f_i, f_k - f_i \rangle}{\lVert f_j - f_i \rVert \lVert f_k - f_i \rVert}
                      = \frac{d_{ij}^2 + d_{ik}^2 - d_{jk}^2}{2 d_{ij} d_{ik}}

    Paper: Park et al., "Relational Knowledge Distillation", CVPR 2019, eqs. 8-9; lenscloth/RKD@0a6c3c0.
    Args:
        student, teacher: embeddings; the widths may differ.
    Shapes: (b, d), (b, e) -> scalar. Costs b^2 d + b^3, memory of a block of b^3.
    Raises: ShapeError for other samples.
    Example: ``rkd_angle(2 * x + 1, x)`` is 0.
    Differs from the official code: computed from distances, not from b^2 x d differences; angles at equal samples are
    0 without gradient.
    """
    same_samples(student, teacher, 2)
    return angle_of(Edges(student, student, euclidean), Edges(teacher, teacher, euclidean))


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
    Differs from the official code (lenscloth/RKD@0a6c3c0): the distance of equal samples (1e-6) has no gradient, and
    their angles are 0 without gradient (there up to 1.2e7).
    """

    reads_16_bits: ClassVar[bool] = True
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"distance", "angle"})

    def __init__(self, *, distance_weight: float = 25.0, angle_weight: float = 50.0) -> None:
        super().__init__()
        self.terms = self.weighted_terms(
            distance=(distance_weight, _distance_term),
            angle=(angle_weight, _angle_term),
        )

    def build(self, features: Features, side: Side) -> Graph:
        """Samples and their distances, in units of the mean distance."""
        graph = sample_graph(features, "embedding", "RKD")
        return graph.connect("sample", "euclidean", "sample", normalise="mean")


def _distance_term(pair: Pair) -> Float[Tensor, ""]:
    return distance_of(*_edges(pair))


def _angle_term(pair: Pair) -> Float[Tensor, ""]:
    return angle_of(*_edges(pair))


def _edges(pair: Pair) -> tuple[Edges, Edges]:
    kind = "sample", "euclidean", "sample"
    return pair.student.edges(*kind), pair.teacher.edges(*kind)


def distance_of(student: Edges, teacher: Edges) -> Float[Tensor, ""]:
    """:func:`rkd_distance` over the samples of all ranks."""
    if distributed.world_size() == 1:
        return ops.rkd_distance(student.source, teacher.source)
    return HUBER(_relative(student), _relative(teacher))


def _apart(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Distances of different samples, at least 1e-6."""
    return ops.squared_distances(x, y).clamp_min(_LEAST).sqrt()


def _relative(edges: Edges) -> Float[Tensor, "n m"]:
    """This rank's rows of the relative distances of everybody's nodes."""
    x, y, m = edges.source, edges.targets, edges.shape[-1]
    distances = _apart(x, y).masked_fill(itself(x, y, edges.offset), 0.0)
    mean = distributed.total(distances.sum()) / max(m * (m - 1), 1)
    return distances / torch.where(mean == 0, 1.0, mean)


def angle_of(student: Edges, teacher: Edges) -> Float[Tensor, ""]:
    """:func:`rkd_angle` over the samples of all ranks."""
    first, everyone = student.offset, student.shape[-1]
    mine = ops.rkd_angle(student.targets, teacher.targets, first, first + len(student.source))
    return distributed.total(mine) / everyone**3
