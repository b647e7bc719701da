"""Token relational graph: the tokens of a batch within an image, among their neighbours, and across the networks."""

import torch

from graphkd import ops
from graphkd.checks import same_embeddings, same_samples, same_shape, tensor_loss
from graphkd.errors import OptionError
from graphkd.graphs.alignments import MSE
from graphkd.typing import Float, Tensor


@tensor_loss
def trg(
    student: Float[Tensor, "b n d"],
    teacher: Float[Tensor, "b n e"],
    inner_weight: float = 1.0,
    local_weight: float = 1.0,
    global_weight: float = 1.0,
    neighbors: int = 8,
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Token relational graph: tokens of the whole batch as nodes.

    .. math:: L = w_i L_{inner} + w_l L_{local} + w_g L_{global}

    Paper: Zhang et al., "Knowledge Distillation via Token-level Relationship Graph", arXiv 2306.12442; no official
    code was found, its weights, neighbours and temperatures are not known: all defaults are our choice.
    Args:
        student, teacher: tokens; a term of weight 0 is not computed, the global one needs equal widths.
        inner_weight, local_weight, global_weight: default 1.
        neighbors: k of the local graph; default 8 (fewer where there are fewer tokens).
        temperature: of the global contrast, > 0; default 0.1.
    Shapes: (b, n, d), (b, n, e) -> scalar.
    Raises: ShapeError for other samples, tokens or (global term) widths; OptionError for neighbors < 1.
    Example: ``trg(x, x, global_weight=0.0)`` is 0.
    """
    same_samples(student, teacher, 3)
    loss = student.sum() * 0
    if inner_weight:
        loss = loss + inner_weight * trg_inner(student, teacher)
    if local_weight:
        loss = loss + local_weight * trg_local(student.flatten(0, 1), teacher.flatten(0, 1), neighbors)
    if global_weight:
        loss = loss + global_weight * trg_global(student.flatten(0, 1), teacher.flatten(0, 1), temperature)
    return loss


@tensor_loss
def trg_inner(student: Float[Tensor, "b n d"], teacher: Float[Tensor, "b n e"]) -> Float[Tensor, ""]:
    r"""TRG inside an image: attention-like maps, :math:`\mathrm{MSE}` of :math:`\mathrm{softmax}(F F^\top / \sqrt d)`.

    Shapes: (b, n, d), (b, n, e) -> scalar.
    Raises: ShapeError for other samples or tokens.
    Example: ``trg_inner(x, x)`` is 0.
    """
    same_samples(student, teacher, 3)
    same_shape(student[..., 0], teacher[..., 0], "tokens", "sample the same tokens on both sides")
    relations = ((ops.gram(x, x) / x.shape[-1] ** 0.5).softmax(-1) for x in (student, teacher))
    return MSE.local(next(relations), next(relations))


@tensor_loss
def trg_local(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], neighbors: int = 8, reverse: bool = False
) -> Float[Tensor, ""]:
    r"""TRG's local graph: Gaussian affinities of each token's nearest tokens, as distributions.

    .. math:: L = \mathrm{mean}_i \mathrm{KL}(\mathrm{softmax}_j A^S_{ij} \,\|\, \mathrm{softmax}_j A^T_{ij}), \qquad
              A_{ij} = \exp(-\lVert t_i - t_j \rVert^2 / 2 d) \text{ for the k nearest } j, \text{ else } 0

    Args:
        student, teacher: tokens of the whole batch.
        neighbors: k >= 1; default 8.
        reverse: KL of the teacher from the student instead; default as reported.
    Shapes: (n, d), (n, e) -> scalar.
    Raises: ShapeError for other tokens, OptionError for neighbors < 1.
    Example: ``trg_local(x, x)`` is 0.
    Differs from the official code: none is known; the squared width of the kernel is d, the mean over tokens ours.
    """
    same_samples(student, teacher, 2)
    if neighbors < 1:
        raise OptionError(f"neighbors is >= 1, found {neighbors}")
    graph_s, graph_t = (_nearest(x, min(neighbors, len(x) - 1)) for x in (student, teacher))
    divergence = ops.row_kl(graph_s, graph_t) if reverse else ops.row_kl(graph_t, graph_s)
    return divergence.mean()


def _nearest(x: Float[Tensor, "n d"], k: int) -> Float[Tensor, "n n"]:
    squares = ops.squared_distances(x, x)
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    nearest = squares.detach().masked_fill(itself, float("inf")).topk(k, dim=1, largest=False).indices
    kept = torch.zeros_like(itself).scatter(1, nearest, True)
    return torch.where(kept, (-squares / (2 * x.shape[1])).exp(), 0.0)


@tensor_loss
def trg_global(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    r"""TRG's global contrast: a token is more like its own teacher token than like any other (InfoNCE).

    .. math:: L = -\mathrm{mean}_i \log \mathrm{softmax}_j (\cos(t^S_i, t^T_j) / \tau)_{i}

    Shapes: (n, d) twice -> scalar, not 0 for student == teacher.
    Raises: ShapeError for other tokens or widths, OptionError for a temperature <= 0.
    Example: ``trg_global(torch.ones(1, 2), torch.ones(1, 2))`` is 0.
    """
    same_embeddings(student, teacher)
    ops.positive_temperature(temperature)
    own = torch.arange(len(student), device=student.device)
    return ops.info_nce(student, teacher, own, "cosine", temperature) / len(student)
