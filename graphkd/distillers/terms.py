"""Terms that most methods are made of: edges compared within each graph, nodes compared across the two."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from graphkd import distributed, ops
from graphkd.distillers.base import Pair, mean_over_batch
from graphkd.distributed import grams
from graphkd.graphs.align import NodeKernel, align, align_nodes
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.graph import EdgeType
from graphkd.graphs.relations import RELATIONS, Relation, itself, name_of
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor


@dataclass(frozen=True)
class EdgeTerm:
    r"""Compare the edges of one type in both graphs.

    Args:
        edge_type: (source, relation, target), connected by ``build``.
        alignment: name or Alignment.
    """

    edge_type: EdgeType
    alignment: str | Alignment

    def __post_init__(self) -> None:
        object.__setattr__(self, "alignment", ALIGNMENTS.resolve(self.alignment))

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of the two edge sets."""
        assert isinstance(self.alignment, Alignment)
        return align(pair.student.edges(*self.edge_type), pair.teacher.edges(*self.edge_type), self.alignment)


NODE_TARGETS: Registry[type["NodeTerm"]] = Registry("node target")


@dataclass(frozen=True)
class NodeTerm(ABC):
    r"""Relate teacher's nodes with student's, :math:`N_{ij} = r(x^T_i, x^S_j)`, and say what N should be.

    Args:
        node_type: compared nodes, of equal width in both graphs.
        relation: name or function.
        alignment: name or Alignment of N and its target, where the target is a matrix.
    """

    node_type: str
    relation: str | Relation = "gram"
    alignment: str | Alignment = "frobenius"

    def __post_init__(self) -> None:
        object.__setattr__(self, "relation", RELATIONS.resolve(self.relation))
        object.__setattr__(self, "alignment", ALIGNMENTS.resolve(self.alignment))

    @abstractmethod
    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of N from what it should be."""

    def nodes(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Student's and teacher's nodes of this rank."""
        student, teacher = pair.student[self.node_type].x, pair.teacher[self.node_type].x
        return ops.same_width(teacher, student), teacher


class MatrixTarget(NodeTerm):
    """A node term whose target is a matrix: this rank's teacher nodes by everybody's student nodes.

    Attributes:
        kernel: what fused kernels call the target, or empty.
        of_teachers: whether the target relates the teacher's nodes to each other.
    """

    kernel: ClassVar[str] = ""
    of_teachers: ClassVar[bool] = False

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of N from the target."""
        assert isinstance(self.alignment, Alignment)
        assert callable(self.relation)
        student, teacher = self.nodes(pair)
        across = self._across_ranks(pair, student, teacher)
        if across is not None:
            return across
        sizes, first = list(pair.sizes), distributed.first_row(pair.sizes)
        everyone = distributed.gather(student, sizes)

        def teachers() -> Tensor:
            return distributed.gather(teacher, sizes)

        def target() -> Tensor:
            return self.target(teacher, teachers() if self.of_teachers else everyone, first)

        fused = NodeKernel(name_of(self.relation), self.kernel, first, teachers)
        return align_nodes(everyone, teacher, self.relation, self.alignment, target, fused)

    def _across_ranks(self, pair: Pair, student: Tensor, teacher: Tensor) -> Tensor | None:
        assert isinstance(self.alignment, Alignment)
        assert callable(self.relation)
        rows = sum(pair.sizes)
        if len(pair.sizes) < 2 or self.alignment.kernel != ("square",):
            return None
        value = grams.nodes(student, teacher, name_of(self.relation), self.kernel, rows)
        return None if value is None else self.alignment.outer(value, value.new_tensor(float(rows)), rows)

    @abstractmethod
    def target(self, teacher: Float[Tensor, "n d"], others: Float[Tensor, "m d"], first: int) -> Float[Tensor, "n m"]:
        """What N should be.

        Args:
            teacher: this rank's.
            others: nodes that they are related to: the teacher's where :attr:`of_teachers`, else the student's.
            first: place of the first teacher's node among the samples of all ranks.
        """


@NODE_TARGETS.register("identity")
class IdentityNodes(MatrixTarget):
    r"""EGA's node term: :math:`N \to I`, each student node like its own teacher node and like no other."""

    kernel: ClassVar[str] = "identity"

    def target(self, teacher: Float[Tensor, "n d"], others: Float[Tensor, "m d"], first: int) -> Float[Tensor, "n m"]:
        """These rows and columns of the identity."""
        return itself(teacher, others, first).to(teacher.dtype)


@NODE_TARGETS.register("teacher_gram")
class TeacherGramNodes(MatrixTarget):
    r""":math:`N \to R^T`: a student node relates to the teacher's nodes as its own teacher node does."""

    kernel: ClassVar[str] = "gram"
    of_teachers: ClassVar[bool] = True

    def target(self, teacher: Float[Tensor, "n d"], others: Float[Tensor, "m d"], first: int) -> Float[Tensor, "n m"]:
        """The teacher's own relations."""
        assert callable(self.relation)
        return self.relation(teacher, others)


@NODE_TARGETS.register("diagonal")
class DiagonalNodes(NodeTerm):
    r""":math:`\mathrm{mean}_i (1 - N_{ii})`: only corresponding nodes are compared, the alignment plays no part."""

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """One minus the mean relation of corresponding nodes."""
        assert callable(self.relation)
        student, teacher = (x.unsqueeze(-2) for x in self.nodes(pair))  # a graph of one node for each sample
        return mean_over_batch(1 - self.relation(teacher, student).flatten())


@dataclass(frozen=True)
class EdgesAndIdentity:
    r"""EGA's pair of terms, :math:`E^S \to E^T` and :math:`N \to I`, of the same nodes in one pass.

    Args:
        node_type: compared nodes, of equal width in both graphs.
        relation: ``"gram"``, ``"cosine"`` or ``"pearson"``.
        alignment: one of squared differences.
    """

    node_type: str
    relation: str
    alignment: Alignment

    def edge(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of the two edge sets."""
        return pair.once(self, self._values)[0]

    def node(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of N from the identity."""
        return pair.once(self, self._values)[1]

    def _values(self, pair: Pair) -> tuple[Tensor, Tensor]:
        student, teacher = pair.student[self.node_type].x, pair.teacher[self.node_type].x
        ops.same_width(student, teacher)
        if len(pair.sizes) < 2:
            edge, node = ops.ega_sums(student, teacher, self.relation).unbind()
            return self._reduced(edge, node, len(student), len(student))
        rows = sum(pair.sizes)
        sums = grams.edges_and_nodes(student, teacher, self.relation, rows)
        if sums is not None:
            count = sums.new_tensor(float(rows))
            return self.alignment.outer(sums[0], count, rows), self.alignment.outer(sums[1], count, rows)
        xs, xt = (distributed.gather(x, list(pair.sizes)) for x in (student, teacher))
        edge = ops.edge_sum(student, xs, teacher, xt, self.relation)
        node = ops.node_sum(xs, teacher, self.relation, offset=distributed.first_row(pair.sizes))
        return self._reduced(edge, node, len(student), rows)

    def _reduced(self, edge: Tensor, node: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        return self.alignment.reduce(edge, rows, columns), self.alignment.reduce(node, rows, columns)
