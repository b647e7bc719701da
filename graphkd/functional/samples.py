"""Losses of relations between the samples of a batch: RKD, SP, PKT, CC, IRG, GKD."""

import torch
from graphkd_kernels.diagonal import diagonal

from graphkd.checks import same_samples, tensor_loss
from graphkd.errors import OptionError
from graphkd.graphs.relations import cosine
from graphkd.typing import Bool, Float, Tensor

_LEAST_DEGREE = 0.1


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
