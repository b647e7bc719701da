"""Losses of relations between the samples of a batch: RKD, SP, PKT, CC, IRG, GKD."""

import torch
from graphkd_kernels.diagonal import diagonal

from graphkd import ops
from graphkd.checks import same_samples, tensor_loss
from graphkd.errors import OptionError
from graphkd.graphs.relations import cosine
from graphkd.typing import Bool, Float, Tensor

_PKT_EPS = 1e-7
_LEAST_DEGREE = 0.1


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
    return ops.rkd_distance(student, teacher)


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
    return ops.rkd_angle(student, teacher) / len(student) ** 3


@tensor_loss
def pkt(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    r"""Probabilistic knowledge transfer: each sample's similarities as a distribution over the batch.

    .. math:: L = \frac{1}{N^2} \sum_{ij} P^T_{ij} \log \frac{P^T_{ij} + \epsilon}{P^S_{ij} + \epsilon}, \qquad
              P_{ij} = \frac{1 + \cos(f_i, f_j)}{\sum_k 1 + \cos(f_i, f_k)}, \quad \epsilon = 10^{-7}

    Paper: Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018, eqs. 3-8;
    HobbitLong/RepDistiller@b84f547.
    Args:
        student, teacher: embeddings; the widths may differ.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``pkt(2 * x, x)`` is 0 up to the eps.
    Differs from the official code: a zero row gets no gradient, and a NaN is not replaced by 0.
    """
    same_samples(student, teacher, 2)
    return ops.edge_pkt(student, None, teacher, None) / len(student) ** 2


def pkt_divergence(student: Float[Tensor, "n m"], teacher: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """PKT's penalty of each entry of two matrices of conditional probabilities."""
    return teacher * ((teacher + _PKT_EPS) / (student + _PKT_EPS)).log()


def pkt_rows(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows divided by their length + 1e-7, as PKT has it; a zero row stays zero, without gradient."""
    length = ops.safe_sqrt(x.square().sum(-1, keepdim=True))
    return torch.where(length == 0, 0.0, x / (length + _PKT_EPS))


@tensor_loss
def gkd(
    student: Float[Tensor, "b *any"], teacher: Float[Tensor, "b *other"], power: int = 1, neighbors: int | None = None
) -> Float[Tensor, ""]:
    r"""Graph KD of Lassance et al.: powers of the normalised cosine graph of one block's outputs.

    .. math:: L = \sum_{ij} ((A^S)^p - (A^T)^p)_{ij}^2, \qquad A = D^{-1/2} C D^{-1/2}, \quad
              C_{ij} = \cos(f_i, f_j), C_{ii} = 0

    Paper: Lassance et al., "Deep geometric knowledge distillation with graphs", arXiv 1911.03080;
    cadurosar/graph_kd@4e52ed2. The weight 25 and the mean over blocks are the caller's.
    Args:
        student, teacher: outputs of one block, flattened here.
        power: of the adjacency, p >= 1; default 1.
        neighbors: keep the teacher's k largest entries of each row, and their mirror images, on both sides;
            default all.
    Shapes: (b, ...), (b, ...) -> scalar.
    Raises: ShapeError for other samples, OptionError for power < 1 or neighbors < 1.
    Example: ``gkd(2 * x, x)`` is 0.
    Differs from the official code: a degree below 0.1 counts as 0.1 here. Cosines have signs, so a degree may be 0 or
    less, and the official code then gives infinity or NaN.
    """
    same_samples(student, teacher)
    if power < 1 or (neighbors is not None and neighbors < 1):
        raise OptionError(f"power and neighbors are >= 1, found {power} and {neighbors}")
    graph_s, graph_t = (_normalised_graph(x.flatten(1)) for x in (student, teacher))
    if neighbors is not None and neighbors < len(student):
        mask = _strongest(graph_t, neighbors)
        graph_s, graph_t = torch.where(mask, graph_s, 0.0), torch.where(mask, graph_t, 0.0)
    difference: Tensor = torch.linalg.matrix_power(graph_s, power) - torch.linalg.matrix_power(graph_t, power)
    return difference.square().sum()


def _normalised_graph(x: Tensor) -> Tensor:
    edges = cosine(x, x)
    edges = edges - torch.diag_embed(diagonal(edges))
    scale = edges.sum(-1).clamp_min(_LEAST_DEGREE).rsqrt()
    return scale.unsqueeze(-1) * edges * scale


def _strongest(graph: Tensor, k: int) -> Bool[Tensor, "n n"]:
    mask = torch.zeros_like(graph, dtype=torch.bool).scatter(1, graph.topk(k, dim=1).indices, True)
    return mask | mask.mT
