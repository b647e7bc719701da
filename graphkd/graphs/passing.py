"""Edges of two graphs compared while blocks of their targets pass from rank to rank: no rank holds all of them."""

from dataclasses import replace
from typing import Final

from graphkd import distributed
from graphkd.graphs.comparable import AlignmentLike, EdgesLike
from graphkd.ops import RELATIONS, edge_sum
from graphkd.ring.pairs import Pairs
from graphkd.ring.travel import Rows
from graphkd.typing import Float, Tensor

_SUMS: Final = (("square",), ("huber",))  # kernels of alignments that are sums over single entries


def align_passing(student: EdgesLike, teacher: EdgesLike, alignment: AlignmentLike) -> Float[Tensor, ""] | None:
    """By blocks of targets that pass from rank to rank; ``None`` where gathered ones are within the limit, or needed.

    Args, Raises: as of :func:`align`.
    """
    nodes = student.source, student.target, teacher.source, teacher.target
    if not distributed.too_large_to_gather(student.rows_of_ranks, student.target, teacher.target):
        return None
    rule, total = student.passes, alignment.passes
    plain = student.weight is None and teacher.weight is None and len({(x.ndim, x.dtype) for x in nodes}) == 1
    if rule is None or total is None or teacher.passes is not rule or not plain or student.source.ndim != 2:
        return None
    of_student, of_teacher = student.of_block, teacher.of_block
    if of_student is None or of_teacher is None:
        return None

    def values(own: Rows, theirs: Rows, first: int, start: int) -> Rows:
        return of_student(own[0], theirs[0], first, start), of_teacher(own[1], theirs[1], first, start)

    pairs = Pairs(nodes[::2], nodes[1::2], student.rows_of_ranks, values, student.offset)
    value = _fused_passing(student, teacher, alignment, pairs)
    return alignment.reduce(total(rule(pairs)) if value is None else value, len(student.source), pairs.targets)


def _fused_passing(
    student: EdgesLike, teacher: EdgesLike, alignment: AlignmentLike, pairs: Pairs
) -> Float[Tensor, ""] | None:
    """By the kernels that write no matrix of a block either."""
    relation, _, rule = student.key.partition("/")
    if student.key != teacher.key or rule or relation not in RELATIONS or alignment.kernel not in _SUMS:
        return None

    def sums(own: Rows, theirs: Rows, first: int, start: int) -> Rows:
        return (edge_sum(own[0], theirs[0], own[1], theirs[1], relation, alignment.kernel[0]).view(1, 1),)

    return replace(pairs, values=sums, whole=True).sum(lambda value: value).sum()
