"""How EIKD's implicit term relates samples: one part for each reading of "structured relations"."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

from graphkd import distributed, ops
from graphkd.checks import same_samples, tensor_loss
from graphkd.distillers.base import Pair
from graphkd.distillers.parts import align_within
from graphkd.distillers.terms import NodeTerm
from graphkd.errors import OptionError
from graphkd.graphs.align import align, contrast
from graphkd.graphs.alignments import HUBER, MSE, ROW_SQUARES, Alignment, kl
from graphkd.graphs.edges import Edges
from graphkd.graphs.graph import Graph
from graphkd.graphs.relations import ExceptItself, cosine
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor


@tensor_loss
def implicit_relations(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    r"""EIKD's implicit term: the squared distance of each sample's cosines with all samples, rows of unit length.

    .. math:: L = \frac{1}{N} \lVert R^S - R^T \rVert_F^2, \qquad R = \mathrm{unit\ rows}(\cos(h_i, h_j))

    A mean over samples, as :func:`explicit_features`; over all N^2 entries its gradient would vanish in large batches.

    EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``implicit_relations(2 * h, h)`` is 0.
    """
    same_samples(student, teacher, 2)
    return align_within(student, teacher, "cosine", ROW_SQUARES, "unit")


class Implicit(ABC):
    """One way to compare the relations of samples.

    A graph holds ``relation`` nodes (the relation's input) and ``sample`` nodes (features in the teacher's space).

    Attributes:
        crosses: whether student's nodes are related to teacher's, so that ``sample`` nodes are needed.
    """

    crosses = False

    def connect(self, graph: Graph) -> Graph:
        """Add the edges that are compared."""
        return graph

    @abstractmethod
    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of the two graphs."""


@dataclass(frozen=True)
class Within(Implicit):
    """Relations inside each network, compared entry by entry or row by row.

    Args:
        relation: name of a relation.
        normalise: rule of ``graphkd.graphs.edges.NORMALISERS``, or ``None``.
        alignment: of the two matrices.
        diagonal: keep each sample's relation with itself.
        absent: what replaces the diagonal where it is dropped, before the rule applies.
    """

    relation: str
    normalise: str | None = None
    alignment: Alignment = MSE
    diagonal: bool = True
    absent: float = 0.0

    def connect(self, graph: Graph) -> Graph:
        """Relate all samples."""
        return graph.connect("relation", self.relation, "relation", normalise=self.normalise)

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Distance of the matrices."""
        edges = (each.edges("relation", self.relation, "relation") for each in (pair.student, pair.teacher))
        student, teacher = (each if self.diagonal else self._off_diagonal(each) for each in edges)
        return align(student, teacher, self.alignment)

    def _off_diagonal(self, edges: Edges) -> Edges:
        relation = ExceptItself(edges.relation, self.absent, edges.offset)
        return replace(edges, relation=relation, name=f"{edges.name}, off the diagonal")


class Angles(Implicit):
    """RKD's angles of all triplets."""

    def connect(self, graph: Graph) -> Graph:
        """Reach the samples of all ranks."""
        return graph.connect("relation", "euclidean", "relation")

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Mean smooth-L1 difference over all triplets."""
        student, teacher = (each.edges("relation", "euclidean", "relation") for each in (pair.student, pair.teacher))
        first, everyone = student.offset, student.shape[-1]
        mine = ops.rkd_angle(student.targets, teacher.targets, first, first + len(student.source))
        return distributed.total(mine) / everyone**3


class Cross(Implicit):
    """A sample's cosines with the other network's samples should be the teacher's own; rows of unit length."""

    crosses = True

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Mean over samples of the squared distance of their rows."""
        return NodeTerm("sample", "teacher_gram", _unit_cosine, ROW_SQUARES)(pair)


@dataclass(frozen=True)
class InfoNCE(Implicit):
    r"""Each teacher node should find its own student node among all.

    .. math:: L = -\mathrm{mean}_i \log \mathrm{softmax}_j(\cos(h^T_i, g h^S_j) / \tau)_i

    Args:
        temperature: tau > 0.
    """

    temperature: float
    crosses = True

    def __post_init__(self) -> None:
        kl(self.temperature)  # refuses a temperature <= 0

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Mean over samples."""
        return contrast(pair.teacher["sample"].x, pair.student["sample"].x, pair.sizes, self.temperature)


IMPLICIT: Registry[Callable[[bool, float], Implicit]] = Registry("implicit relation")
IMPLICIT.register("cosine")(lambda diagonal, temperature: Within("cosine", "unit", ROW_SQUARES, diagonal))
IMPLICIT.register("cosine_mean")(lambda diagonal, temperature: Within("cosine", "unit", MSE, diagonal))
IMPLICIT.register("sp_raw")(lambda diagonal, temperature: Within("gram", "unit", MSE, diagonal))
IMPLICIT.register("pearson")(lambda diagonal, temperature: Within("pearson", None, MSE, diagonal))
IMPLICIT.register("rkd_distance")(lambda diagonal, temperature: Within("euclidean", "mean", HUBER, diagonal))


@IMPLICIT.register("softmax")
def _softmax(diagonal: bool, temperature: float) -> Implicit:
    return Within("cosine", None, kl(temperature), diagonal, absent=-1e9)  # finite: no 0 times infinity


def _without_diagonal(name: str, make: Callable[[float], Implicit]) -> None:
    @IMPLICIT.register(name)
    def checked(diagonal: bool, temperature: float) -> Implicit:
        if not diagonal:
            raise OptionError(f"relation={name!r} has no diagonal that could be dropped: leave keep_diagonal=True")
        return make(temperature)


_without_diagonal("rkd_angle", lambda temperature: Angles())
_without_diagonal("cross", lambda temperature: Cross())
_without_diagonal("infonce", InfoNCE)


def _unit_cosine(x: Tensor, y: Tensor) -> Tensor:
    return ops.unit_rows(cosine(x, y))
