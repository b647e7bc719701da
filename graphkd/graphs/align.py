"""Two graphs compared: edges within each network, and nodes across the two.

A term of a method says what is compared. How it is computed is decided here: by D x D Gram matrices that the ranks
exchange, where those are fewer bytes than nodes; else from gathered nodes, by a fused form where there is one, by
blocks of rows where the matrix is large, and else from the whole matrix.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Final

import torch
from torch.utils.checkpoint import checkpoint

from graphkd import distributed, ops
from graphkd.distributed import grams
from graphkd.errors import ShapeError
from graphkd.graphs.alignments import CROSS_ENTROPY, FROBENIUS, Alignment
from graphkd.graphs.edges import Edges
from graphkd.graphs.relations import RELATIONS, Relation, itself, name_of
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

_WHOLE: Final = 2**24  # entries of a matrix that is materialised: 64 MiB in float32
_BLOCK: Final = 2**22  # entries of a block of rows of a larger one
_SQUARE: Final = ("square",)


def align(student: Edges, teacher: Edges, alignment: Alignment) -> Float[Tensor, ""]:
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
    across = _edges_by_grams(student, teacher, alignment)
    if across is not None:
        return across
    total = _fused(student, teacher, alignment)
    *batch, n, m = student.shape
    rows = prod(batch) * n
    sums = type(alignment) is Alignment  # a subclass may look at the whole matrix
    if total is None and sums and rows * m > _WHOLE and student.by_rows and teacher.by_rows:
        total = _by_blocks(student, teacher, alignment, max(1, _BLOCK // (prod(batch) * m)))
    if total is None:
        return alignment(student.dense(), teacher.dense(), teacher.weight)
    return alignment.reduce(total, rows, m)


def _edges_by_grams(student: Edges, teacher: Edges, alignment: Alignment) -> Tensor | None:
    rows = student.among
    if not rows or not teacher.among or student.key != teacher.key or alignment.kernel != _SQUARE:
        return None
    relation, _, rule = student.key.partition("/")
    value = grams.edges(student.source, teacher.source, relation, rule, rows)
    return None if value is None else alignment.finish(value, rows, rows)


def _fused(student: Edges, teacher: Edges, alignment: Alignment) -> Tensor | None:
    """This rank's sum of penalties by a kernel that knows relation, rule and penalty, if there is one."""
    relation, _, rule = student.key.partition("/")
    penalty, *numbers = alignment.kernel or ("",)
    if not penalty or student.key != teacher.key or relation not in ops.RELATIONS:
        return None
    if not rule:
        one = ops.edge_kl if penalty == "kl" else ops.edge_sum
        return one(*edge_nodes(student, teacher), relation, *(numbers or [penalty]))
    if rule == "unit_rows" and relation == "gram" and penalty == "square":
        return ops.unit_edge_sum(*edge_nodes(student, teacher))
    if rule == "_center" and relation in ops.INNER and penalty != "kl":
        xs, ys, xt, yt = edge_nodes(student, teacher)
        return ops.edge_sum(*_centred(xs, ys, relation), *_centred(xt, yt, relation), "gram", penalty)
    return None


def _centred(x: Tensor, y: Tensor | None, relation: str) -> tuple[Tensor, Tensor]:
    """Nodes of a centred Gram matrix: x (y - mean y)' centres the targets, and no matrix."""
    rows = ops.row_map(x, relation)
    targets = rows if y is None else ops.row_map(y, relation)
    return rows, targets - targets.mean(-2, keepdim=True)


def _by_blocks(student: Edges, teacher: Edges, alignment: Alignment, rows: int) -> Float[Tensor, ""]:
    def block(start: int, stop: int) -> Tensor:
        ours, theirs = student.rows(start, stop), teacher.rows(start, stop)
        return alignment.local_sum(ours.dense(), theirs.dense(), theirs.weight)

    n = student.shape[-2]
    parts = [checkpoint(block, k, min(k + rows, n), use_reentrant=False) for k in range(0, n, rows)]
    return torch.stack(parts).sum()


def edge_nodes(student: Edges, teacher: Edges) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Students' sources and targets, teachers' sources and targets; targets ``None`` where they are the sources."""
    if student.targets is student.source and teacher.targets is teacher.source:
        return student.source, None, teacher.source, None
    return student.source, student.targets, teacher.source, teacher.targets


NodeTarget = Callable[[Tensor, Tensor, Relation, Alignment, Sequence[int]], Tensor]
NODE_TARGETS: Registry[NodeTarget] = Registry("node target")


def align_nodes(
    student: Float[Tensor, "n d"],
    teacher: Float[Tensor, "n d"],
    relation: str | Relation = "gram",
    target: str | NodeTarget = "identity",
    alignment: Alignment = FROBENIUS,
    rows_of_ranks: Sequence[int] = (),
) -> Float[Tensor, ""]:
    r"""Compare nodes across the networks by their relations, :math:`N_{ij} = r(x^T_i, x^S_j)`.

    Args:
        student, teacher: nodes of this rank.
        relation: name or function; default ``"gram"``.
        target: what N should be. ``"identity"`` (default): a student node is like its own teacher node and like no
            other (EGA). ``"teacher_gram"``: a student node relates to the teacher's nodes as its own teacher node
            does. ``"centred_gram"``: the same for the student's rows :math:`r(x^S_i - m, x^T_j - m)`, with m the mean
            of all teacher nodes. ``"diagonal"``: :math:`\mathrm{mean}_i (1 - N_{ii})`, corresponding nodes alone.
        alignment: of N and its target; plays no part for ``"diagonal"``. Default ``FROBENIUS``.
        rows_of_ranks: nodes of each rank; default this process alone.

    Raises: ShapeError if the widths differ, UnknownNameError.
    Example: ``align_nodes(student, teacher, "cosine", "diagonal")``
    """
    ops.same_width(teacher, student)
    compare = NODE_TARGETS.resolve(target)
    return compare(student, teacher, RELATIONS.resolve(relation), alignment, rows_of_ranks or (len(teacher),))


@NODE_TARGETS.register("diagonal")
def _diagonal(
    student: Tensor, teacher: Tensor, relation: Relation, alignment: Alignment, sizes: Sequence[int]
) -> Tensor:
    pairs = relation(teacher.unsqueeze(-2), student.unsqueeze(-2))  # a graph of one node for each sample
    return distributed.mean_over_batch(1 - pairs.flatten())


@NODE_TARGETS.register("identity")
def _identity(
    student: Tensor, teacher: Tensor, relation: Relation, alignment: Alignment, sizes: Sequence[int]
) -> Tensor:
    known = _nodes_by_grams(student, teacher, relation, alignment, "identity", sizes)
    if known is not None:
        return known
    everyone, first = distributed.gather(student, list(sizes)), distributed.first_row(sizes)
    if alignment.kernel == _SQUARE and name_of(relation) in ops.INNER:
        total = ops.node_sum(everyone, teacher, name_of(relation), "identity", first)
        return alignment.reduce(total, len(teacher), len(everyone))
    return alignment(relation(teacher, everyone), itself(teacher, everyone, first).to(teacher.dtype))


@NODE_TARGETS.register("teacher_gram")
def _teacher_gram(
    student: Tensor, teacher: Tensor, relation: Relation, alignment: Alignment, sizes: Sequence[int]
) -> Tensor:
    known = _nodes_by_grams(student, teacher, relation, alignment, "gram", sizes)
    if known is not None:
        return known
    everyone, teachers = (distributed.gather(x, list(sizes)) for x in (student, teacher))
    if alignment.kernel == _SQUARE and name_of(relation) in ops.INNER:
        others = None if teachers is teacher else teachers
        total = ops.node_sum(everyone, teacher, name_of(relation), "gram", distributed.first_row(sizes), others)
        return alignment.reduce(total, len(teacher), len(everyone))
    return alignment(relation(teacher, everyone), relation(teacher, teachers))


@NODE_TARGETS.register("centred_gram")
def _centred_gram(
    student: Tensor, teacher: Tensor, relation: Relation, alignment: Alignment, sizes: Sequence[int]
) -> Tensor:
    teachers = distributed.gather(teacher, list(sizes))
    mean = teachers.mean(0)
    anchors, name = teachers - mean, name_of(relation)
    ours, theirs = (Edges(x - mean, anchors, relation, name=name) for x in (student, teacher))
    return align(ours, theirs, alignment)


def _nodes_by_grams(
    student: Tensor, teacher: Tensor, relation: Relation, alignment: Alignment, target: str, sizes: Sequence[int]
) -> Tensor | None:
    if len(sizes) < 2 or alignment.kernel != _SQUARE:
        return None
    value = grams.nodes(student, teacher, name_of(relation), target, sum(sizes))
    return None if value is None else alignment.finish(value, sum(sizes), sum(sizes))


def align_edges_and_nodes(
    student: Float[Tensor, "n d"],
    teacher: Float[Tensor, "n d"],
    relation: str,
    alignment: Alignment,
    rows_of_ranks: Sequence[int] = (),
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """EGA's pair of terms from one pass: edges of the two networks, and nodes against the identity.

    Args:
        student, teacher: nodes of this rank, of equal width.
        relation: ``"gram"``, ``"cosine"`` or ``"pearson"``.
        alignment: one of squared differences.
        rows_of_ranks: nodes of each rank; default this process alone.

    Raises: ShapeError if the nodes differ in number or width, OptionError.
    """
    ops.same_width(student, teacher)
    rows = sum(rows_of_ranks) or len(student)
    if len(rows_of_ranks) < 2:
        sums = ops.ega_sums(student, teacher, relation)
    else:
        known = grams.edges_and_nodes(student, teacher, relation, rows)
        if known is not None:
            return alignment.finish(known[0], rows, rows), alignment.finish(known[1], rows, rows)
        xs, xt = (distributed.gather(x, list(rows_of_ranks)) for x in (student, teacher))
        edge = ops.edge_sum(student, xs, teacher, xt, relation)
        sums = torch.stack([edge, ops.node_sum(xs, teacher, relation, offset=distributed.first_row(rows_of_ranks))])
    edge, node = sums.unbind()
    return alignment.reduce(edge, len(student), rows), alignment.reduce(node, len(student), rows)


def contrast(
    nodes: Float[Tensor, "n d"], others: Float[Tensor, "n d"], sizes: tuple[int, ...], temperature: float
) -> Float[Tensor, ""]:
    r"""Each node should find its own other among those of all ranks,
    :math:`-\mathrm{mean}_i \log \mathrm{softmax}_j(\cos(x_i, y_j) / \tau)_i`.

    Args:
        nodes, others: those of this rank, one for one.
        sizes: of each rank.
        temperature: tau > 0.
    """
    first = distributed.first_row(sizes)
    everyone = distributed.gather(others, list(sizes))
    own = torch.arange(first, first + len(nodes), device=nodes.device)
    return CROSS_ENTROPY.reduce(ops.info_nce(nodes, everyone, own, "cosine", temperature), len(nodes), len(everyone))
