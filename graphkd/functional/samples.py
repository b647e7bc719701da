"""Losses of relations between the samples of a batch: RKD, SP, PKT, CC, IRG, GKD."""

from math import exp, factorial

import torch

from graphkd import ops
from graphkd.errors import OptionError
from graphkd.functional._precision import graph_loss
from graphkd.functional._shapes import same_embeddings, same_samples
from graphkd.graphs.alignments import MSE
from graphkd.graphs.relations import cosine
from graphkd.ops import diagonal
from graphkd.typing import Bool, Float, Tensor

_PKT_EPS = 1e-7
_LEAST_DEGREE = 0.1


@graph_loss
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


@graph_loss
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


@graph_loss
def similarity_preserving(student: Float[Tensor, "b *any"], teacher: Float[Tensor, "b *other"]) -> Float[Tensor, ""]:
    r"""Similarity-preserving KD: Gram matrices with rows of unit length.

    .. math:: L = \frac{1}{N^2} \lVert \hat G^S - \hat G^T \rVert_F^2, \qquad G = F F^\top

    Paper: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, eqs. 2-4;
    HobbitLong/RepDistiller@b84f547.
    Args:
        student, teacher: maps or embeddings, flattened here; the widths may differ.
    Shapes: (b, ...), (b, ...) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``similarity_preserving(2 * x, x)`` is 0.
    Differs from the official code: the teacher gets no gradient, the result is a scalar, a zero row stays zero.
    """
    same_samples(student, teacher)
    return ops.unit_edge_sum(student.flatten(1), None, teacher.flatten(1), None) / len(student) ** 2


@graph_loss
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


@graph_loss
def correlation_congruence(
    student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"], gamma: float = 0.4, order: int = 2
) -> Float[Tensor, ""]:
    r"""Correlation congruence, as in the paper: Gaussian kernel matrices, by their Taylor series.

    .. math:: L = \mathrm{mean}_{ij} (K^S_{ij} - K^T_{ij})^2, \qquad
              K = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} \cos(f_i, f_j)^p

    Paper: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, eqs. 6-10;
    AberHu/Knowledge-Distillation-Zoo@65470c8.
    Args:
        student, teacher: embeddings; the widths may differ.
        gamma: inverse squared width of the kernel, > 0; default 0.4.
        order: last power P of the series, >= 1; default 2.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples, OptionError for gamma <= 0 or order < 1.
    Example: ``correlation_congruence(2 * x, x)`` is 0.
    """
    same_samples(student, teacher, 2)
    if gamma <= 0 or order < 1:
        raise OptionError(f"the kernel needs gamma > 0 and order >= 1, found {gamma} and {order}")
    return MSE.local(
        taylor_kernel(cosine(student, student), gamma, order), taylor_kernel(cosine(teacher, teacher), gamma, order)
    )


def taylor_kernel(cosines: Float[Tensor, "n m"], gamma: float = 0.4, order: int = 2) -> Float[Tensor, "n m"]:
    """Gaussian kernel of unit rows from their cosines, by its Taylor series to ``order`` (correlation congruence)."""
    series = [(2 * gamma) ** p / factorial(p) * cosines**p for p in range(order + 1)]
    return exp(-2 * gamma) * torch.stack(series).sum(0)


@graph_loss
def correlation_congruence_adjacent(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""Correlation congruence as RepDistiller codes it: it depends on the order of the batch, and is not the paper's.

    .. math:: L = \mathrm{mean}_{i < N} \sum_k \delta_{ik} \delta_{i+1,k}, \qquad \delta = |f^S - f^T|

    Source: HobbitLong/RepDistiller@b84f547.
    Args:
        student, teacher: embeddings in one space (there of width 128).
    Shapes: (b, d) twice -> scalar.
    Raises: ShapeError for other samples or widths.
    Example: ``correlation_congruence_adjacent(x, x)`` is 0.
    Differs from the official code: one sample gives 0 (there NaN), and the teacher gets no gradient. RepDistiller
    trains a linear layer on each side by this loss, the teacher's too, as ``CCDistiller(form="adjacent",
    embed_dim=128)`` does.
    """
    same_embeddings(student, teacher)
    delta = (student - teacher).abs()
    return (delta[:-1] * delta[1:]).sum() / max(len(delta) - 1, 1)


@graph_loss
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
