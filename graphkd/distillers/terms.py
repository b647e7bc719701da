"""Terms that most methods are made of: edges compared within each graph, nodes compared across the two."""

from graphkd.distillers.base import Pair
from graphkd.graphs.align import NODE_TARGETS, NodeTarget, align, align_edges_and_nodes, align_nodes
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.graph import EdgeType
from graphkd.graphs.relations import RELATIONS, Relation
from graphkd.typing import Float, Tensor


class EdgeTerm:
    r"""Compare the edges of one type in both graphs.

    Args:
        edge_type: (source, relation, target), connected by ``build``.
        alignment: name or Alignment.
    """

    def __init__(self, edge_type: EdgeType, alignment: str | Alignment) -> None:
        self.edge_type, self.alignment = edge_type, ALIGNMENTS.resolve(alignment)

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of the two edge sets."""
        return align(pair.student.edges(*self.edge_type), pair.teacher.edges(*self.edge_type), self.alignment)


class NodeTerm:
    r"""Relate teacher's nodes with student's, :math:`N_{ij} = r(x^T_i, x^S_j)`, and compare N with what it should be.

    Args:
        node_type: compared nodes, of equal width in both graphs.
        target: name or function, as of :func:`~graphkd.graphs.align.align_nodes`.
        relation: name or function.
        alignment: name or Alignment of N and its target, where the target is a matrix.
    """

    def __init__(
        self,
        node_type: str,
        target: str | NodeTarget = "identity",
        relation: str | Relation = "gram",
        alignment: str | Alignment = "frobenius",
    ) -> None:
        self.node_type, self.target = node_type, NODE_TARGETS.resolve(target)
        self.relation, self.alignment = RELATIONS.resolve(relation), ALIGNMENTS.resolve(alignment)

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of N from what it should be."""
        student, teacher = pair.student[self.node_type].x, pair.teacher[self.node_type].x
        return align_nodes(student, teacher, self.relation, self.target, self.alignment, pair.sizes)


class EdgesAndIdentity:
    r"""EGA's pair of terms, :math:`E^S \to E^T` and :math:`N \to I`, of the same nodes in one pass.

    Args:
        node_type: compared nodes, of equal width in both graphs.
        relation: ``"gram"``, ``"cosine"`` or ``"pearson"``.
        alignment: one of squared differences.
    """

    def __init__(self, node_type: str, relation: str, alignment: Alignment) -> None:
        self.node_type, self.relation, self.alignment = node_type, relation, alignment

    def edge(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of the two edge sets."""
        return pair.once(self, self._values)[0]

    def node(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of N from the identity."""
        return pair.once(self, self._values)[1]

    def _values(self, pair: Pair) -> tuple[Tensor, Tensor]:
        student, teacher = pair.student[self.node_type].x, pair.teacher[self.node_type].x
        return align_edges_and_nodes(student, teacher, self.relation, self.alignment, pair.sizes)
