"""The only door to the kernels: operations on node sets, run by the backend in force.

``with graphkd.backend("eager"):`` asks for one by name (it runs or raises); by default ``"auto"`` picks.
A fused form of an edge alignment is found by its (relation, normalise, alignment); where there is none, the two blocks
are materialised. The author of a method never sees which.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
from graphkd_kernels import dispatch
from torch.utils.checkpoint import checkpoint

from graphkd.errors import BackendError, ShapeError
from graphkd.typing import Float, Int, Tensor

_INNER = frozenset({"gram", "cosine", "pearson"})
_RELATIONS = _INNER | {"euclidean", "squared_euclidean", "rbf"}
_WHOLE = 2**24  # entries of a matrix that is materialised: 64 MiB in float32
_BLOCK = 2**22  # entries of a block of rows of a larger one
_ANGLES = 2**22  # entries of one block of angles: 16 MiB in float32


class EdgesLike(Protocol):
    """What :func:`align` needs of edges."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def key(self) -> str: ...
    @property
    def weight(self) -> Tensor | None: ...
    @property
    def source(self) -> Tensor: ...
    @property
    def target(self) -> Tensor: ...
    @property
    def by_rows(self) -> bool: ...
    def rows(self, start: int, stop: int, /) -> "EdgesLike": ...
    def dense(self) -> Tensor: ...


class AlignmentLike(Protocol):
    """What :func:`align` needs of an alignment."""

    @property
    def kernel(self) -> tuple[Any, ...]: ...
    def local_sum(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, /) -> Tensor: ...
    def reduce(self, value: Tensor, rows: int, columns: int, /) -> Tensor: ...
    def __call__(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, /) -> Tensor: ...


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


def row_kl(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], temperature: float = 1.0
) -> Float[Tensor, "*b n"]:
    """KL divergence of the rows' softmax, teacher's from student's."""
    result: Tensor = dispatch.run("row_kl", student, teacher, temperature)
    return result


def row_pearson(student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b n"]:
    """Correlation of corresponding rows."""
    result: Tensor = dispatch.run("row_pearson", student, teacher)
    return result


def knn(x: Float[Tensor, "n d"], k: int) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Each row's k nearest other rows: indices and squared distances, nearest first.

    Raises: ShapeError if there are fewer than k other rows.
    """
    if not 0 < k < len(x):
        raise ShapeError(f"a graph of {len(x)} nodes has {len(x) - 1} neighbours for each, {k} were asked for: lower k")
    indices, distances = dispatch.run("knn", x, k)
    return indices, distances


def unit_gram(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n n"]:
    """Inner products of a node set, each row of the matrix scaled to unit length (SP, ICKD)."""
    result: Tensor = dispatch.run("unit_gram", x)
    return result


def pair_squares(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Squared distances within a node set, at least 1e-12 off the diagonal and 0 on it."""
    result: Tensor = dispatch.run("pair_squares", x)
    return result


def rkd_distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Distances within a node set divided by their mean over the pairs (RKD)."""
    result: Tensor = dispatch.run("rkd_distances", x)
    return result


def rkd_distance(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean smooth-L1 difference of both sides' :func:`rkd_distances`; the widths may differ."""
    result: Tensor = dispatch.run("rkd_distance", student, teacher)
    return result


def rkd_angle(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], first: int = 0, last: int | None = None
) -> Float[Tensor, ""]:
    """Smooth-L1 differences of the angles at the nodes in [first, last), summed; divide by n^3 for RKD's mean.

    Angles are cosines; those at two coincident nodes are 0, without gradient. The widths may differ.
    Large graphs are taken in blocks of nodes that the backward pass computes again, so memory does not grow with n^3.
    """
    last = len(student) if last is None else last
    rows = max(1, _ANGLES // len(student) ** 2)
    if last - first <= rows:
        whole: Tensor = dispatch.run("rkd_angle", student, teacher, first, last)
        return whole
    blocks = [
        checkpoint(dispatch.run, "rkd_angle", student, teacher, start, min(start + rows, last), use_reentrant=False)
        for start in range(first, last, rows)
    ]
    return torch.stack(blocks).sum()


def damped_row_pearson(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], eps: float
) -> Float[Tensor, "*b n"]:
    """Correlation of corresponding rows with eps added to the denominator (DIST)."""
    result: Tensor = dispatch.run("damped_row_pearson", student, teacher, eps)
    return result


def align(student: EdgesLike, teacher: EdgesLike, alignment: AlignmentLike) -> Float[Tensor, ""]:
    """Compare the edges of two graphs over the same nodes.

    A fused form writes no matrix of all pairs; without one, a large matrix is taken by blocks of rows that the backward
    pass computes again, wherever rows can be computed by themselves.

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
    name, *numbers = alignment.kernel or ("",)
    total: Tensor | None = FUSED[name](student, teacher, *numbers) if name in FUSED else None
    *batch, n, m = student.shape
    rows = prod(batch) * n
    if total is None and rows * m > _WHOLE and student.by_rows and teacher.by_rows:
        total = _by_blocks(student, teacher, alignment, max(1, _BLOCK // (prod(batch) * m)))
    if total is None:
        return alignment(student.dense(), teacher.dense(), teacher.weight)
    return alignment.reduce(total, rows, m)


def _by_blocks(student: EdgesLike, teacher: EdgesLike, alignment: AlignmentLike, rows: int) -> Float[Tensor, ""]:
    def block(start: int, stop: int) -> Tensor:
        ours, theirs = student.rows(start, stop), teacher.rows(start, stop)
        return alignment.local_sum(ours.dense(), theirs.dense(), theirs.weight)

    n = student.shape[-2]
    parts = [checkpoint(block, k, min(k + rows, n), use_reentrant=False) for k in range(0, n, rows)]
    return torch.stack(parts).sum()


def _edge_sum(student: EdgesLike, teacher: EdgesLike, penalty: str) -> Tensor | None:
    key = student.key
    if key != teacher.key:
        return None
    relation, _, rule = key.partition("/")
    if key == "gram/unit_rows" and penalty == "square":
        result: Tensor = dispatch.run("unit_edge_sum", *edge_nodes(student, teacher))
    elif relation in _RELATIONS and not rule:
        result = dispatch.run("edge_sum", *edge_nodes(student, teacher), relation, penalty)
    else:
        return None
    return result


FUSED: dict[str, Callable[..., Tensor | None]] = {
    "square": lambda student, teacher: _edge_sum(student, teacher, "square"),
    "huber": lambda student, teacher: _edge_sum(student, teacher, "huber"),
}
"""An alignment's ``kernel`` -> the fused sum of its penalties for two edges (and its numbers), or ``None``."""


def edge_nodes(student: EdgesLike, teacher: EdgesLike) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Students' sources and targets, teachers' sources and targets; targets ``None`` where they are the sources."""
    if student.target is student.source and teacher.target is teacher.source:
        return student.source, None, teacher.source, None
    return student.source, student.target, teacher.source, teacher.target


@dataclass(frozen=True)
class NodeKernel:
    """What a fused node term has to know.

    Args:
        relation: name of the relation, empty if it is none of ours.
        target: ``"identity"`` or ``"gram"``, empty for one without a fused form.
        offset: position of the first teacher node among the student nodes.
        everyone: makes the teacher nodes of all ranks.
    """

    relation: str
    target: str
    offset: int
    everyone: Callable[[], Tensor]


def align_nodes(
    student: Float[Tensor, "m d"],
    teacher: Float[Tensor, "n d"],
    relation: Callable[[Tensor, Tensor], Tensor],
    alignment: AlignmentLike,
    target: Callable[[], Float[Tensor, "n m"]],
    fused: NodeKernel | None = None,
) -> Float[Tensor, ""]:
    """Compare the teacher-student node matrix with a target matrix.

    Args:
        student: student's nodes, those of all ranks.
        teacher: teacher's nodes, this rank's.
        relation: of a teacher node with a student node.
        alignment: from ``graphkd.alignments``.
        target: makes what the matrix should be; not called where a fused form needs no matrix.
        fused: what a fused form has to know, if there may be one.

    Raises: ShapeError if the widths differ.
    """
    same_width(teacher, student)
    squares = alignment.kernel == ("square",)
    if fused is None or not (squares and fused.target and fused.relation in _INNER):
        return alignment(relation(teacher, student), target())
    everyone = fused.everyone() if fused.target == "gram" else None
    if everyone is teacher:
        everyone = None
    arguments = student, teacher, fused.relation, fused.target, fused.offset, everyone
    return alignment.reduce(dispatch.run("node_sum", *arguments), len(teacher), len(student))


def same_width(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b m d"]:
    """The second node set, once it is known to have the features of the first."""
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(
            f"source nodes have {x.shape[-1]} features, target nodes {y.shape[-1]}: project one side first"
        )
    return y
