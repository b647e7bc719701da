"""Graph losses of instances: images with several features (IRG), regions of one image (DSIG)."""

import torch
from torch.nn.functional import mse_loss

from graphkd import ops
from graphkd.errors import ShapeError
from graphkd.functional._precision import graph_loss
from graphkd.functional._shapes import same_logits, same_samples, same_shape
from graphkd.graphs.alignments import MSE
from graphkd.graphs.channels import to_smaller
from graphkd.graphs.relations import cosine
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
    vertex_weight: float = 0.1,
    edge_weight: float = 5.0,
    transformation_weight: float = 5.0,
) -> Float[Tensor, ""]:
    r"""Instance relationship graph: logits as vertices, distances as edges, change between layers as transformation.

    .. math:: L = w_v \mathrm{MSE}(z^S, z^T) + w_e \tfrac13 \sum_{l} L_{edge}(F_l) + w_t L_{trans}(F_1, F_2)

    Paper: Liu et al., "Knowledge Distillation via Instance Relationship Graph", CVPR 2019;
    AberHu/Knowledge-Distillation-Zoo@65470c8, whose weights these are; in yufanLIU/IRG@0a6837c every term weighs 0.005.
    Args:
        student, teacher: pooled features.
        student_maps, teacher_maps: two maps each, the shallower first.
        student_logits, teacher_logits: without them the vertex term is left out.
        vertex_weight, edge_weight, transformation_weight: defaults 0.1, 5 and 5.
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
    return loss + vertex_weight * mse_loss(*known_vertices(student_logits, teacher_logits))


def known_vertices(student: Float[Tensor, "b c"], teacher: Float[Tensor, "b c"]) -> tuple[Tensor, Tensor]:
    """IRG's vertices of both sides; a class that the teacher masks by -inf is 0 in both, no distance."""
    masked = teacher == -torch.inf
    return student.masked_fill(masked, 0.0), teacher.masked_fill(masked, 0.0)


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
    first, second = to_smaller(first, second)
    if second.shape[1] == 2 * first.shape[1]:
        second = second.reshape(len(second), first.shape[1], 2, *second.shape[2:]).mean(2)
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
