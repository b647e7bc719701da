"""Edges and nodes of two graphs compared: by a fused form where there is one, else by blocks of rows, else whole.

A fused form is found by the alignment's ``kernel`` (:data:`FUSED`) and the edges' relation and normaliser. It gives
this rank's sum of penalties; ``alignment.reduce`` adds those of all ranks and applies the outer function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch.utils.checkpoint import checkpoint

from graphkd.distributed import grams
from graphkd.errors import ShapeError
from graphkd.graphs.comparable import AlignmentLike, EdgesLike
from graphkd.ops import INNER, RELATIONS, edge_kl, edge_sum, node_sum, row_map, same_width, unit_edge_sum
from graphkd.typing import Float, Tensor

_WHOLE = 2**24  # entries of a matrix that is materialised: 64 MiB in float32
_BLOCK = 2**22  # entries of a block of rows of a larger one


def align(student: EdgesLike, teacher: EdgesLike, alignment: AlignmentLike) -> Float[Tensor, ""]:
    """Compare the edges of two graphs over the same nodes.

    A fused form writes no matrix of all pairs; without one, a large matrix is taken by blocks of rows that the backward
    pass computes again, wherever rows can be computed by themselves.

    Args:
        student, teacher: implicit edges of equal shape; the teacher's may weigh the comparison of each entry.
        alignment: from ``graphkd.graphs.alignments``.

    Raises: ShapeError if the two graphs have different nodes.
    """
    if student.shape != teacher.shape:
        raise ShapeError(
            f"student edges {student.shape} and teacher edges {teacher.shape} differ: "
            "both graphs need the same nodes in the same order"
        )
    across = _across_ranks(student, teacher, alignment)
    if across is not None:
        return across
    name, *numbers = alignment.kernel or ("",)
    total: Tensor | None = FUSED[name](student, teacher, *numbers) if name in FUSED else None
    *batch, n, m = student.shape
    rows = prod(batch) * n
    if total is None and alignment.sums and rows * m > _WHOLE and student.by_rows and teacher.by_rows:
        total = _by_blocks(student, teacher, alignment, max(1, _BLOCK // (prod(batch) * m)))
    if total is None:
        return alignment(student.dense(), teacher.dense(), teacher.weight)
    return alignment.reduce(total, rows, m)


def _across_ranks(student: EdgesLike, teacher: EdgesLike, alignment: AlignmentLike) -> Tensor | None:
    """By exchanging Gram matrices, where that is possible and fewer bytes than gathering the targets."""
    rows = student.among
    if not rows or not teacher.among or student.key != teacher.key or alignment.kernel != ("square",):
        return None
    relation, _, rule = student.key.partition("/")
    value = grams.edges(student.source, teacher.source, relation, rule, rows)
    return None if value is None else alignment.outer(value, value.new_tensor(float(rows)), rows)


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
        return unit_edge_sum(*edge_nodes(student, teacher))
    if relation in RELATIONS and not rule:
        return edge_sum(*edge_nodes(student, teacher), relation, penalty)
    if relation in INNER and rule == "_center":  # x (y - mean y)': the targets are centred, not the matrix
        xs, ys, xt, yt = edge_nodes(student, teacher)
        return edge_sum(*_centred(xs, ys, relation), *_centred(xt, yt, relation), "gram", penalty)
    return None


def _centred(x: Tensor, y: Tensor | None, relation: str) -> tuple[Tensor, Tensor]:
    rows = row_map(x, relation)
    targets = rows if y is None else row_map(y, relation)
    return rows, targets - targets.mean(-2, keepdim=True)


def _edge_kl(student: EdgesLike, teacher: EdgesLike, temperature: float) -> Tensor | None:
    relation, _, rule = student.key.partition("/")
    if student.key != teacher.key or relation not in RELATIONS or rule:
        return None
    return edge_kl(*edge_nodes(student, teacher), relation, temperature)


FUSED: dict[str, Callable[..., Tensor | None]] = {
    "square": lambda student, teacher: _edge_sum(student, teacher, "square"),
    "huber": lambda student, teacher: _edge_sum(student, teacher, "huber"),
    "kl": _edge_kl,
}
"""An alignment's ``kernel`` -> the fused sum of its penalties for two edges (and its numbers), or ``None``."""


def edge_nodes(student: EdgesLike, teacher: EdgesLike) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Students' sources and targets, teachers' sources and targets; targets ``None`` where they are the sources."""
    if student.targets is student.source and teacher.targets is teacher.source:
        return student.source, None, teacher.source, None
    return student.source, student.targets, teacher.source, teacher.targets


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
        alignment: from ``graphkd.graphs.alignments``.
        target: makes what the matrix should be; not called where a fused form needs no matrix.
        fused: what a fused form has to know, if there may be one.

    Raises: ShapeError if the widths differ.
    """
    same_width(teacher, student)
    squares = alignment.kernel == ("square",)
    if fused is None or not (squares and fused.target and fused.relation in INNER):
        return alignment(relation(teacher, student), target())
    everyone = fused.everyone() if fused.target == "gram" else None
    if everyone is teacher:
        everyone = None
    total = node_sum(student, teacher, fused.relation, fused.target, fused.offset, everyone)
    return alignment.reduce(total, len(teacher), len(student))
