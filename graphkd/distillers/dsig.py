"""Deep structured instance graph of a detector: regions of one image as nodes; a function only."""

from graphkd.checks import same_samples, same_shape, tensor_loss
from graphkd.graphs.relations import cosine
from graphkd.typing import Bool, Float, Tensor


@tensor_loss
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
