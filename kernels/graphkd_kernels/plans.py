"""Which backend and path an operation takes, decided from shapes alone, never from data.

A planner maps an operation's shapes to a :class:`Plan`: backend, path and cost. Dispatch and ``explain`` ask the same
planners; the blocked backend asks the same path functions. From which size on which backend is the fastest, the table
in force says (``machine_plan``); a planner says what the size is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch

from graphkd_kernels.machine_plan import choices

Shape = tuple[int, ...]
Signature = tuple[Any, ...]
"""An operation's arguments with each tensor replaced by its shape."""

INNER = ("gram", "cosine", "pearson")
"""Relations that are inner products of mapped rows."""
_STEPS = 2**24  # operations that the many small steps of the D x D path cost as much as, whatever the size
_DENSE = 2**22  # entries of a matrix that may be held where nothing was measured
_WHY = {
    "pairs": "few nodes for their width: the matrix of pairs is less work than Gram matrices of features",
    "D x D": "many nodes for their width: Gram matrices of features are less work, and no matrix of pairs exists",
    "rows": "row by row, the matrix of pairs is never whole",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How an operation runs.

    Args:
        backend: ``"eager"``, ``"blocked"`` or ``"triton"``.
        path: of the backend, such as ``"D x D"`` or ``"tiles"``.
        flops: of value and gradient, 2 for each multiply-add of a matrix product.
        bytes: least traffic to memory: inputs read, gradients written, matrices that exist written and read.
        why: one clause.
        curve, size: what the table in force was asked for.
    """

    backend: str
    path: str
    flops: float
    bytes: float
    why: str
    curve: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Where:
    """The type of the first tensor, its device, and the backends that have the operation there and are right."""

    dtype: torch.dtype
    device: str
    backends: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of an edge loss: graphs, sources, targets (0: the sources themselves), widths."""

    graphs: int
    sources: int
    targets: int
    student: int
    teacher: int

    @classmethod
    def of(cls, xs: Shape, ys: Shape | None, xt: Shape) -> "Sizes":
        """From the shapes of the arguments."""
        return cls(prod(xs[:-2]), xs[-2], 0 if ys is None else ys[-2], xs[-1], xt[-1])

    @property
    def rows(self) -> int:
        """Sources and targets of one graph."""
        return self.sources + self.targets

    @property
    def pairs(self) -> int:
        """Entries of one graph's matrix."""
        return self.sources * (self.targets or self.sources)

    @property
    def same_widths(self) -> bool:
        """Whether the difference form is possible."""
        return self.student == self.teacher


# paths: pairs or D x D Gram matrices, whichever is less work


def pairs_work(sizes: Sizes) -> int:
    """Operations by pairs, value and student's gradient, of one graph."""
    widths = sizes.student + sizes.teacher
    if sizes.targets:
        return sizes.pairs * (2 * widths + 4 * sizes.student)
    return sizes.pairs * (2 * (sizes.student if sizes.same_widths else widths) + 2 * sizes.student)


def grams_work(sizes: Sizes) -> int:
    """Operations through Gram matrices of joined rows, half of them spared by symmetry."""
    width = sizes.student + sizes.teacher
    gram = width * width * (1 if sizes.same_widths else 2)  # float64 products cost twice
    return sizes.rows * (gram + 2 * width * sizes.student)


def square_path(sizes: Sizes) -> str:
    """Of a sum of squares: "pairs" or "D x D"."""
    if sizes.pairs > 4 * sizes.rows * (sizes.student + sizes.teacher) + 2**16:
        return "D x D"
    return "pairs" if pairs_work(sizes) < grams_work(sizes) + _STEPS else "D x D"


def unit_path(sizes: Sizes) -> str:
    """Of unit rows: "D x D" or "rows"; 26 N D^2 operations against 6 or 8 for each pair and feature."""
    each = 8 if sizes.targets else 6
    few = each * sizes.pairs * sizes.student < 26 * sizes.rows * sizes.student**2 + _STEPS
    return "rows" if few or not sizes.same_widths else "D x D"


def ega_path(rows: int, width: int) -> str:
    """Of EGA's two sums: "pairs" or "D x D"; 8 N^2 D or 4 N D (2 D) + 4 N D^2 operations."""
    return "pairs" if 2 * rows < 3 * width and rows <= 4096 else "D x D"


def node_path(students: int, teachers: int, width: int) -> str:
    """Of a node term: "pairs" or "D x D"; 4 N M D operations, or two Gram matrices and a product."""
    return "pairs" if 4 * students * teachers < (4 * students + 2 * teachers) * width else "D x D"


# backends: what the table in force says of a size


def _backend(where: Where, curve: str, size: int, entries: int) -> tuple[str, str]:
    """The backend for a size on a curve, and why; without a table, what is safe: blocks for what is large.

    No size is put into words here: it may be a compiler's symbol, which words would fix.
    """
    found = choices(curve, where.dtype, where.device)
    if found is None:
        small = entries <= _DENSE
        chosen, why = "eager" if small else "blocked", f"{'up to' if small else 'beyond'} {_DENSE} entries, no plan"
    else:
        source, steps = found
        chosen, since = steps[0][1], 0
        for start, name in steps:
            if size < start:
                break
            chosen, since = name, start
        why = f"from size {since} on, by {source}"
    return (chosen, why) if chosen in where.backends else ("eager", "no other backend has it here, or is right")


def _plan(
    where: Where,
    curve: str,
    size: int,
    path: str,
    flops: float,
    numbers: float,
    entries: int | None = None,
    passes: int = 0,
    note: str = "",
) -> Plan:
    """The plan of a size on a curve.

    Args:
        numbers: of inputs and gradients. entries: of the dense matrices, by default the size. passes: over these in
            the reference. note: on the path.
    """
    entries = size if entries is None else entries
    backend, why = _backend(where, curve, size, entries)
    if backend == "eager":
        moved = where.dtype.itemsize * (numbers + passes * entries)
        return Plan(backend, "dense", flops, moved, why, curve, size)
    why = f"{why}; {note}" if note else why
    return Plan(backend, path, flops, where.dtype.itemsize * numbers, why, curve, size)


def _edges(where: Where, curve: str, path: str, sizes: Sizes, work: int, note: str = "") -> Plan:
    """Edges of two networks: inputs are read and the student's gradient is written."""
    numbers = sizes.graphs * sizes.rows * (2 * sizes.student + sizes.teacher)
    return _plan(where, curve, sizes.graphs * sizes.pairs, path, sizes.graphs * work, numbers, note=note or _WHY[path])


def _kind(operation: str, relation: str) -> str:
    """The curve of an operation by the kind of its relation."""
    return f"{operation}.{'inner' if relation in INNER else 'distances'}"


# planners


def _edge_sum(signature: Signature, where: Where) -> Plan:
    xs, ys, xt, _, relation, penalty = signature[:6]
    sizes = Sizes.of(xs, ys, xt)
    if relation not in INNER or penalty != "square":
        work = sizes.pairs * (2 * (sizes.student + sizes.teacher) + (4 if sizes.targets else 2) * sizes.student)
        curve = "edge_sum.huber" if relation in INNER else "edge_sum.distances"
        return _edges(where, curve, "rows", sizes, work, "no D x D form exists")
    path, curve = square_path(sizes), "edge_sum.square" if len(xs) == 2 else "edge_sum.graphs"
    return _edges(where, curve, path, sizes, pairs_work(sizes) if path == "pairs" else grams_work(sizes))


def _unit_edge_sum(signature: Signature, where: Where) -> Plan:
    sizes = Sizes.of(*signature[:3])
    path = unit_path(sizes)
    dense = (8 if sizes.targets else 6) * sizes.pairs * sizes.student
    work = 26 * sizes.rows * sizes.student**2 if path == "D x D" else dense
    return _edges(where, "unit_edge_sum", path, sizes, work)


def _ega_sums(signature: Signature, where: Where) -> Plan:
    (n, d), path = signature[0], ega_path(*signature[0])
    work = 8 * n * n * d if path == "pairs" else 9 * n * d * d
    return _edges(where, "ega_sums", path, Sizes(1, n, 0, d, d), work)


def _joint_gram(signature: Signature, where: Where) -> Plan:
    (n, s), (_, t) = signature[:2]
    width = s + t
    size = n * min(width, 256)  # of the pieces of the matrix, each some columns wide
    flops = grams_work(Sizes.of(signature[0], None, signature[1]))
    return _plan(where, "joint_gram", size, "D x D", flops, n * (2 * s + t), width * width, note="matrix products")


def _node_sum(signature: Signature, where: Where) -> Plan:
    (m, d), (n, _) = signature[:2]
    path = node_path(m, n, d)
    work = 4 * n * m * d if path == "pairs" else (3 * m + n) * d * d
    return _plan(where, "node_sum", m * n, path, work, (m + n) * 2 * d, note=_WHY[path])


def _similarity(signature: Signature, where: Where) -> Plan:
    x, y, relation = signature[:3]
    sizes = Sizes.of(x, y, x)
    pairs, work = sizes.graphs * sizes.pairs, sizes.graphs * sizes.pairs * sizes.student
    numbers = 3 * sizes.graphs * sizes.rows * sizes.student + 2 * pairs
    if sizes.pairs < 64:  # many graphs of one pair each are no matrix
        return Plan("eager", "dense", 4 * work, where.dtype.itemsize * numbers, "a few pairs")
    return _plan(where, _kind("similarity", relation), work, "matrix", 4 * work, numbers, pairs)


def _row_map(curve: str, signature: Signature, where: Where) -> Plan:
    numbers = prod(signature[0])
    return _plan(where, curve, numbers, "rows", 10 * numbers, 4 * numbers)


def _rows(curve: str, signature: Signature, where: Where) -> Plan:
    """Corresponding rows or columns of two matrices."""
    entries = prod(signature[0])
    return _plan(where, curve, entries, "blocks", 20 * entries, 3 * entries, passes=20)


def _edge_rows(
    operation: str,
    width: Callable[[Signature], int],
    relation: Callable[[Signature], str],
    signature: Signature,
    where: Where,
) -> Plan:
    """Rows of edges; ``width`` and ``relation`` read the second network's width and the relation."""
    x, y, other = signature[0], signature[1], width(signature)
    n, m = x[-2], (x if y is None else y)[-2]
    entries = prod(x[:-2]) * n * m
    numbers = 2 * prod(x[:-2]) * (n + m) * (x[-1] + other)
    flops = 2 * entries * (3 * x[-1] + other)
    return _plan(where, _kind(operation, relation(signature)), entries, "blocks", flops, numbers, passes=16)


def _rkd_distance(signature: Signature, where: Where) -> Plan:
    (n, d), (_, e) = signature[0], signature[1]
    numbers = n * (2 * d + e) + 4 * n * n
    return _plan(where, "rkd_distance", n * n, "blocks", n * n * (3 * d + e), numbers, passes=24)


def _rkd_angle(signature: Signature, where: Where) -> Plan:
    (n, d), (_, e), triplets = signature[0], signature[1], (signature[3] - signature[2]) * signature[0][0] ** 2
    flops, numbers = 16 * triplets + 2 * n * n * (2 * d + e), n * (2 * d + e) + 6 * n * n
    return _plan(where, "rkd_angle", triplets, "blocks", flops, numbers, passes=16)


def _knn(signature: Signature, where: Where) -> Plan:
    (n, d), k = signature[0], signature[1]
    size = 8 * n // min(max(k, 8), 32)  # a row's candidates are 16 k columns
    return _plan(where, "knn", size, "blocks", 2 * n * n * d, n * d + 3 * n * k, n * n, passes=6)


Planner = Callable[[Signature, Where], Plan]
"""Only backends that :class:`Where` names may be chosen."""

PLANNERS: dict[str, Planner] = {
    "center_normalize": partial(_row_map, "center_normalize"),
    "damped_column_pearson": partial(_rows, "damped_column_pearson"),
    "damped_row_pearson": partial(_rows, "damped_row_pearson"),
    "dist_sums": partial(_rows, "dist_sums"),
    "edge_kl": partial(_edge_rows, "edge_kl", lambda s: s[2][-1], lambda s: s[4]),
    "edge_pkt": partial(_edge_rows, "edge_pkt", lambda s: s[2][-1], lambda s: "cosine"),
    "edge_sum": _edge_sum,
    "ega_sums": _ega_sums,
    "info_nce": partial(_edge_rows, "info_nce", lambda s: 0, lambda s: s[3]),
    "joint_gram": _joint_gram,
    "knn": _knn,
    "node_sum": _node_sum,
    "rkd_angle": _rkd_angle,
    "rkd_distance": _rkd_distance,
    "row_kl": partial(_rows, "row_kl"),
    "row_pearson": partial(_rows, "row_pearson"),
    "similarity": _similarity,
    "unit_edge_sum": _unit_edge_sum,
    "unit_rows": partial(_row_map, "unit_rows"),
}
