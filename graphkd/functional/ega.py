"""Embedding graph alignment: nodes against the teacher's, edges against the teacher's edges."""

from graphkd import ops
from graphkd.checks import same_embeddings, same_samples, tensor_loss
from graphkd.typing import Float, Tensor


@tensor_loss
def ega(
    student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"], node_weight: float = 0.8, edge_weight: float = 0.24
) -> Float[Tensor, ""]:
    r"""Embedding graph alignment.

    .. math:: L = w_n \lVert N - I \rVert_F + w_e \lVert E^T - E^S \rVert_F

    Paper: Ma, Chen, Akata, "Embedding Graph Alignment", BMVC 2022, eq. 7; yccm/EGA@0963f8e.
    Args:
        student, teacher: embeddings in one space.
        node_weight, edge_weight: defaults 0.8 and 0.24, the training script's for batches of 64 (its class: 1 and 0.3).
    Shapes: (b, d) twice -> scalar.
    Raises: ShapeError for other samples or widths.
    Example: ``ega(torch.eye(3), torch.eye(3))`` is ``0.8 * sqrt(6) / 2``: the off-diagonal correlations are -1/2.
    Differs from the official code (argument order teacher, student): a constant row gives correlation 0, there NaN.
    """
    same_embeddings(student, teacher)
    edge, node = ops.safe_sqrt(ops.ega_sums(student, teacher, "pearson")).unbind()
    return node_weight * node + edge_weight * edge


@tensor_loss
def ega_node(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""EGA's node term: each student node correlates with its own teacher node and with no other.

    .. math:: L = \lVert N - I \rVert_F, \qquad N_{ij} = r(x^T_i, x^S_j)

    Paper: Ma, Chen, Akata, BMVC 2022, eqs. 5-6. Not 0 for student == teacher.
    Shapes: (b, d) twice -> scalar.
    Raises: ShapeError for other samples or widths.
    Example: ``ega_node(torch.eye(3), torch.eye(3))`` is ``sqrt(6) / 2``.
    """
    same_embeddings(student, teacher)
    return ops.safe_sqrt(ops.node_sum(student, teacher, "pearson", "identity"))


@tensor_loss
def ega_edge(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    r"""EGA's edge term: correlations between samples, un-squared norm of their difference.

    .. math:: L = \lVert E^S - E^T \rVert_F, \qquad E_{ij} = r(x_i, x_j)

    Paper: Ma, Chen, Akata, BMVC 2022, eqs. 3-4. The widths may differ.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``ega_edge(2 * x + 1, x)`` is 0.
    """
    same_samples(student, teacher, 2)
    return ops.safe_sqrt(ops.edge_sum(student, None, teacher, None, "pearson"))
