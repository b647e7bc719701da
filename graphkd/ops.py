"""The only door to the kernels: operations on node sets, run by the backend in force.

``with graphkd.backend("eager"):`` asks for one by name (it runs or raises); by default ``"auto"`` picks.
A fused form of an edge alignment is found by its (relation, normalise, alignment); where there is none, the two blocks
are materialised. The author of a method never sees which.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, Protocol

from graphkd_kernels import dispatch

from graphkd.errors import BackendError, ShapeError
from graphkd.row_ops import (
    damped_column_pearson,
    damped_row_pearson,
    edge_kl,
    edge_pkt,
    info_nce,
    knn,
    knn_graph,
    rkd_angle,
    rkd_distance,
    rkd_distances,
    row_kl,
    row_pearson,
    same_width,
    spectral_residual,
)
from graphkd.typing import Float, Tensor

__all__ = [
    "AlignmentLike",
    "EdgesLike",
    "align",
    "align_nodes",
    "backend",
    "center_normalize",
    "damped_column_pearson",
    "damped_row_pearson",
    "edge_kl",
    "edge_pkt",
    "gram",
    "info_nce",
    "knn",
    "knn_graph",
    "pair_squares",
    "rkd_angle",
    "rkd_distance",
    "rkd_distances",
    "row_kl",
    "row_pearson",
    "safe_sqrt",
    "same_width",
    "spectral_residual",
    "squared_distances",
    "unit_gram",
    "unit_rows",
]

_RELATIONS = ("cosine", "euclidean", "gram", "pearson", "rbf", "squared_euclidean")  # that kernels know by name


class EdgesLike(Protocol):
    """What :func:`align` needs of edges."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def key(self) -> str: ...
    @property
    def weight(self) -> Tensor | None: ...
    @property
    def ends(self) -> tuple[Tensor, Tensor | None]: ...
    def dense(self) -> Tensor: ...


class AlignmentLike(Protocol):
    """What :func:`align` needs of an alignment."""

    @property
    def name(self) -> str: ...
    @property
    def softmax(self) -> float | None: ...
    def __call__(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, /) -> Tensor: ...
    def reduce(self, value: Tensor, rows: int, columns: int, /) -> Tensor: ...


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Use one kernel backend inside the ``with`` block.

    Args:
        name: ``"auto"``, ``"eager"``, or another name of ``graphkd_kernels.available()``.

    Raises: BackendError for a backend that cannot run here.
    """
    try:
        manager = dispatch.backend(name)
        manager.__enter__()
    except dispatch.BackendUnavailableError as error:
        raise BackendError(str(error)) from None
    try:
        yield
    finally:
        manager.__exit__(None, None, None)


def safe_sqrt(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Square root whose value and gradient at 0 are 0."""
    result: Tensor = dispatch.run("safe_sqrt", x)
    return result


def unit_rows(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """Rows scaled to unit length; a zero row stays zero, without gradient. Shapes: (*b, n, d) -> the same."""
    result: Tensor = dispatch.run("unit_rows", x)
    return result


def center_normalize(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """Rows centred and scaled to unit length; a constant row becomes zero, without gradient."""
    result: Tensor = dispatch.run("center_normalize", x)
    return result


def gram(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Inner products of two node sets. Raises: ShapeError if the widths differ."""
    result: Tensor = dispatch.run("gram", x, same_width(x, y))
    return result


def squared_distances(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Squared Euclidean distances of two node sets. Raises: ShapeError if the widths differ."""
    result: Tensor = dispatch.run("squared_distances", x, same_width(x, y))
    return result


def unit_gram(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n n"]:
    """Inner products of a node set, each row of the matrix scaled to unit length (SP, ICKD)."""
    result: Tensor = dispatch.run("unit_gram", x)
    return result


def pair_squares(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Squared distances within a node set, at least 1e-12 off the diagonal and 0 on it."""
    result: Tensor = dispatch.run("pair_squares", x)
    return result


def align(student: EdgesLike, teacher: EdgesLike, alignment: AlignmentLike) -> Float[Tensor, ""]:
    """Compare the edges of two graphs over the same nodes.

    Args:
        student, teacher: implicit edges of equal shape; the teacher's may weigh the comparison of each entry.
        alignment: from ``graphkd.alignments``.

    Raises: ShapeError if the two graphs have different nodes.
    """
    if student.shape != teacher.shape:
        raise ShapeError(
            f"student edges {student.shape} and teacher edges {teacher.shape} differ: "
            "both graphs need the same nodes in the same order"
        )
    relation = student.key.removesuffix("/")
    if alignment.softmax is not None and student.key == teacher.key and relation in _RELATIONS:
        value = edge_kl(student.ends, teacher.ends, relation, alignment.softmax)
        return alignment.reduce(value, prod(student.shape[:-1]), student.shape[-1])
    fused: Callable[..., Any] | None = dispatch.find(f"align:{student.key}:{teacher.key}:{alignment.name}")
    result: Tensor = fused(student, teacher) if fused else alignment(student.dense(), teacher.dense(), teacher.weight)
    return result


def align_nodes(
    student: Float[Tensor, "m d"],
    teacher: Float[Tensor, "n d"],
    relation: Callable[[Tensor, Tensor], Tensor],
    alignment: AlignmentLike,
    target: Callable[[], Float[Tensor, "n m"]],
    name: str = "",
) -> Float[Tensor, ""]:
    """Compare the teacher-student node matrix with a target matrix.

    Args:
        student: student's nodes, those of all ranks.
        teacher: teacher's nodes, this rank's.
        relation: of a teacher node with a student node.
        alignment: from ``graphkd.alignments``.
        target: makes what the matrix should be; not called where a fused form needs no matrix.
        name: of the target, which finds the fused form.

    Raises: ShapeError if the widths differ.
    """
    same_width(teacher, student)
    key = f"nodes:{name}:{getattr(relation, '__name__', '')}:{alignment.name}"
    fused: Callable[..., Any] | None = dispatch.find(key)
    result: Tensor = fused(student, teacher) if fused else alignment(relation(teacher, student), target())
    return result
