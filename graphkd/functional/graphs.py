"""Graph losses of several parts: IRG, DSIG, TRG, and CLIP distillation."""

import torch
from torch.nn.functional import cross_entropy, mse_loss

from graphkd import ops
from graphkd.alignments import CROSS_ENTROPY, MSE
from graphkd.errors import OptionError, ShapeError
from graphkd.functional._precision import graph_loss
from graphkd.functional._shapes import pooled, same_embeddings, same_logits, same_samples, same_shape
from graphkd.functional.logits import positive_temperature
from graphkd.relations import cosine
from graphkd.typing import Bool, Float, Tensor

Maps = tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k h2 w2"]]


@graph_loss
def irg(
    student: Float[Tensor, "b d"],
    teacher: Float[Tensor, "b e"],
    student_maps: Maps,
    teacher_maps: Maps,
    student_logits: Float[Tensor, "b c"] | None = None,
    teacher_logits: Float[Tensor, "b c"] | None = None,
    vertex_weight: float = 1.0,
    edge_weight: float = 1.0,
    transformation_weight: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Instance relationship graph: logits as vertices, distances as edges, change between layers as transformation.

    .. math:: L = w_v \mathrm{MSE}(z^S, z^T) + w_e \tfrac13 \sum_{l} L_{edge}(F_l) + w_t L_{trans}(F_1, F_2)

    Paper: Liu et al., "Knowledge Distillation via Instance Relationship Graph", CVPR 2019;
    AberHu/Knowledge-Distillation-Zoo@65470c8, yufanLIU/IRG@0a6837c (there every term weighs 0.005).
    Args:
        student, teacher: pooled features.
        student_maps, teacher_maps: two maps each, the shallower first.
        student_logits, teacher_logits: without them the vertex term is left out.
        vertex_weight, edge_weight, transformation_weight: default 1.
    Shapes: (b, d), (b, e), two maps (b, c, h, w) each, (b, classes) -> scalar.
    Raises: ShapeError for other samples, classes or numbers of maps.
    Example: ``irg(x, x, (first, second), (first, second))`` is 0.
    """
    if len(student_maps) != 2 or len(teacher_maps) != 2:
        raise ShapeError(
            f"IRG compares two maps, found {len(student_maps)} of the student and {len(teacher_maps)} of the teacher: "
            "give the shallower and the deeper"
        )
    pairs = [(student, teacher), *zip(student_maps, teacher_maps, strict=True)]
    edges = torch.stack([irg_edge(x, y) for x, y in pairs]).mean()
    loss = edge_weight * edges + transformation_weight * irg_transformation(student_maps, teacher_maps)
    if student_logits is None or teacher_logits is None:
        return loss
    same_logits(student_logits, teacher_logits)
    return loss + vertex_weight * mse_loss(student_logits, teacher_logits)


@graph_loss
def irg_edge(student: Float[Tensor, "b *any"], teacher: Float[Tensor, "b *other"]) -> Float[Tensor, ""]:
    r"""IRG's edge term: squared distances of samples, relative to the largest.

    .. math:: L = \mathrm{mean}_{ij} (A^S_{ij} - A^T_{ij})^2, \qquad
              A_{ij} = \lVert f_i - f_j \rVert^2 / \max_{kl} \lVert f_k - f_l \rVert^2

    Shapes: (b, ...), (b, ...) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``irg_edge(2 * x, x)`` is 0.
    Differs from the official code: one sample gives 0 (there NaN).
    """
    same_samples(student, teacher)
    edges = (_relative_to_largest(ops.pair_squares(x.flatten(1))) for x in (student, teacher))
    return MSE.local(next(edges), next(edges))


@graph_loss
def irg_transformation(student_maps: Maps, teacher_maps: Maps) -> Float[Tensor, ""]:
    r"""IRG's transformation term: how far each sample moves from one layer to the next, relative to the largest.

    .. math:: L = \mathrm{mean}_i (t^S_i - t^T_i)^2, \qquad
              t_i = \lVert f^{1}_i - f^{2}_i \rVert^2 / \max_k \lVert f^{1}_k - f^{2}_k \rVert^2

    The larger map is pooled to the smaller; where the deeper map has twice the channels, neighbours are averaged.

    Shapes: two maps (b, c, h, w) and (b, c or 2c, h2, w2) on each side -> scalar.
    Raises: ShapeError for other samples, or channels that are neither equal nor doubled.
    Example: ``irg_transformation((first, second), (first, second))`` is 0.
    """
    same_samples(student_maps[0], teacher_maps[0], 4)
    moves = (_relative_to_largest(_movement(*maps)) for maps in (student_maps, teacher_maps))
    return mse_loss(next(moves), next(moves))


def _relative_to_largest(squares: Tensor) -> Tensor:
    largest = squares.amax()
    return squares / torch.where(largest == 0, 1.0, largest)


def _movement(first: Tensor, second: Tensor) -> Float[Tensor, " b"]:
    first, second = pooled(first, second)
    if second.shape[1] == 2 * first.shape[1]:
        second = second.unflatten(1, (first.shape[1], 2)).mean(2)
    same_shape(first, second, "map", "the deeper map needs as many channels as the shallower, or twice as many")
    return (first - second).flatten(1).square().sum(1)


@graph_loss
def dsig(
    student: Float[Tensor, "n *any"],
    teacher: Float[Tensor, "n *any"],
    foreground: Bool[Tensor, " n"],
    hard: Bool[Tensor, " n"] | None = None,
    foreground_weight: float = 0.5,
    background_weight: float = 0.5,
    edge_weight: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Structured instance graph of one image: region features as nodes, cosines as edges.

    .. math:: L = w_f \mathrm{MSE}_{fg} + 7.5 \frac{N_{fg}}{N_{bg}} w_b \mathrm{MSE}_{bg}
              + w_e \tfrac12 \mathrm{MSE}(E^S, E^T), \qquad E = \cos \text{ of foreground and hard background}

    Paper: Chen et al., "Deep Structured Instance Graph for Distilling Object Detectors", ICCV 2021;
    dvlab-research/Dsig@c8a534c. Images are added by the caller.
    Args:
        student, teacher: features of the student's proposals in both networks.
        foreground: which proposals hold an object.
        hard: which background proposals are edges' nodes (there: teacher's classification loss >= 0.6); default none.
        foreground_weight, background_weight: default 0.5 each.
        edge_weight: default 1 (2 for some pairs of networks).
    Shapes: (n, ...) twice, (n,) -> scalar.
    Raises: ShapeError for other proposals or widths.
    Example: ``dsig(x, x, torch.ones(len(x), dtype=torch.bool))`` is 0.
    """
    same_samples(student, teacher)
    same_shape(student, teacher, "proposals", "project the student to the teacher's width")
    same_shape(foreground, student.flatten(1)[:, 0], "foreground mask", "give one truth value for each proposal")
    student, teacher = student.flatten(1), teacher.flatten(1)
    front = foreground.to(student.dtype)
    node = (student - teacher).square().mean(1)
    balance = 7.5 * front.sum() / (1 - front).sum().clamp_min(1)
    nodes = foreground_weight * _masked_mean(node, front) + background_weight * balance * _masked_mean(node, 1 - front)
    kept = front if hard is None else (foreground | hard).to(student.dtype)
    edges = (cosine(student, student) - cosine(teacher, teacher)).square()
    return nodes + edge_weight * 0.5 * _masked_mean(edges, kept.unsqueeze(1) * kept)


def _masked_mean(x: Tensor, mask: Tensor) -> Float[Tensor, ""]:
    return (x * mask).sum() / mask.sum().clamp_min(1)


@graph_loss
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


@graph_loss
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


@graph_loss
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


@graph_loss
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
    positive_temperature(temperature)
    return cross_entropy(cosine(student, teacher) / temperature, torch.arange(len(student), device=student.device))


@graph_loss
def clip_distillation(
    student_images: Float[Tensor, "b d"],
    teacher_images: Float[Tensor, "b e"],
    student_texts: Float[Tensor, "b d"],
    teacher_texts: Float[Tensor, "b e"],
    student_scale: float = 100.0,
    teacher_scale: float = 100.0,
) -> Float[Tensor, ""]:
    r"""Distillation of a CLIP's image-text similarities, as in open_clip.

    .. math:: L = \tfrac12 \bigl[\mathrm{CE}(\mathrm{softmax}(l^T), l^S) + \mathrm{CE}(\mathrm{softmax}(l^{T\top}),
              l^{S\top})\bigr], \qquad l = s \cos(x, t)

    Source: mlfoundations/open_clip@89fb801. The teacher's entropy is not subtracted: the least value is not 0.
    Args:
        student_images, teacher_images, student_texts, teacher_texts: embeddings of b image-text pairs, any length.
        student_scale, teacher_scale: logit scales (not their logarithms); default 100.
    Shapes: (b, d), (b, e), (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples, or images and texts of unequal width.
    Example: ``clip_distillation(x, x, x, x)`` is the mean entropy of the similarities.
    """
    same_samples(student_images, teacher_images, 2)
    same_samples(student_texts, teacher_texts, 2)
    student = student_scale * cosine(student_images, student_texts)
    teacher = teacher_scale * cosine(teacher_images, teacher_texts)
    same_shape(student, teacher, "similarities", "give the same pairs to both networks")
    return (CROSS_ENTROPY.local(student, teacher) + CROSS_ENTROPY.local(student.mT, teacher.mT)) / 2
