"""Which path an operation takes, decided from shapes alone, never from data.

A planner maps an operation's shapes to a :class:`Plan`: backend, path and cost. Dispatch and ``explain`` ask the same
planners; the blocked backend asks the same path functions. The sizes at which blocks begin to pay were measured on a
CPU, against the reference with gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch

Shape = tuple[int, ...]
Signature = tuple[Any, ...]
"""An operation's arguments with each tensor replaced by its shape."""

INNER = ("gram", "cosine", "pearson")
"""Relations that are inner products of mapped rows."""
_FEW_PAIRS = 2**17  # below it, blocks of rows cost a CPU more in steps than they spare in passes
_STEPS = 2**24  # operations that the many small steps of the D x D path cost as much as, whatever the size
_GPU_ENTRIES = 2**22  # of a dense matrix that a GPU without kernels of ours may as well hold
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
    """

    backend: str
    path: str
    flops: float
    bytes: float
    why: str


@dataclass(frozen=True, slots=True)
class Where:
    """The type of the first tensor, the kind of its device, and the backends that have the operation there."""

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


# plans of inner-product edges, of node terms and of row maps: blocked wherever it pays, and on a GPU always


def _fused(where: Where, path: str, flops: float, moved: float, why: str, pays: bool = True) -> Plan:
    """Triton on a GPU where it has a kernel, else blocked if it pays, else eager."""
    if where.device == "cuda" and "triton" in where.backends:
        return Plan("triton", path, flops, moved, why)
    if "blocked" in where.backends and (pays or where.device == "cuda"):
        return Plan("blocked", path, flops, moved, why)
    return Plan("eager", "dense", flops, moved, "no other has it" if pays else "too small for the fused form to pay")


def _bytes(sizes: Sizes, where: Where) -> int:
    """Inputs read and the student's gradient written."""
    return sizes.graphs * sizes.rows * (2 * sizes.student + sizes.teacher) * where.dtype.itemsize


def _edges(where: Where, path: str, sizes: Sizes, work: int, pays: bool = True, why: str = "") -> Plan:
    return _fused(where, path, sizes.graphs * work, _bytes(sizes, where), why or _WHY[path], pays)


def _edge_sum(signature: Signature, where: Where) -> Plan:
    xs, ys, xt, _, relation, penalty = signature[:6]
    sizes = Sizes.of(xs, ys, xt)
    if relation not in INNER or penalty != "square":
        work = sizes.pairs * (2 * (sizes.student + sizes.teacher) + (4 if sizes.targets else 2) * sizes.student)
        return _edges(where, "rows", sizes, work, sizes.graphs * sizes.pairs >= _FEW_PAIRS, "no D x D form exists")
    path = square_path(sizes)
    return _edges(where, path, sizes, pairs_work(sizes) if path == "pairs" else grams_work(sizes))


def _unit_edge_sum(signature: Signature, where: Where) -> Plan:
    sizes = Sizes.of(*signature[:3])
    path = unit_path(sizes)
    dense = (8 if sizes.targets else 6) * sizes.pairs * sizes.student
    work = 26 * sizes.rows * sizes.student**2 if path == "D x D" else dense
    return _edges(where, path, sizes, work, sizes.graphs * sizes.pairs >= _FEW_PAIRS)


def _ega_sums(signature: Signature, where: Where) -> Plan:
    (n, d), path = signature[0], ega_path(*signature[0])
    return _edges(where, path, Sizes(1, n, 0, d, d), 8 * n * n * d if path == "pairs" else 9 * n * d * d)


def _joint_gram(signature: Signature, where: Where) -> Plan:
    sizes, (n, s), (_, t) = Sizes.of(signature[0], None, signature[1]), *signature[:2]
    pays = n >= 512 and n * (s + t) >= 2**17  # below, the pieces of the matrix cost more than its one product
    return _edges(where, "D x D", sizes, grams_work(sizes), pays, "matrix products")


def _node_sum(signature: Signature, where: Where) -> Plan:
    (m, d), (n, _) = signature[:2]
    path = node_path(m, n, d)
    work = 4 * n * m * d if path == "pairs" else (3 * m + n) * d * d
    return _edges(where, path, Sizes(1, m + n, 0, d, 0), work)


def _similarity(signature: Signature, where: Where) -> Plan:
    x, y, relation = signature[:3]
    sizes = Sizes.of(x, y, x)
    moved = _bytes(sizes, where) + 2 * sizes.pairs * where.dtype.itemsize
    work = sizes.graphs * sizes.pairs * sizes.student
    if sizes.pairs < 64:  # many graphs of one pair each are no matrix
        return Plan("eager", "dense", 4 * work, moved, "a few pairs")
    pays = relation in INNER and work >= 2**22
    return _fused(where, "matrix", 4 * work, moved, "the matrix is the result", pays)


def _row_map(signature: Signature, where: Where) -> Plan:
    numbers = prod(signature[0])
    return _fused(where, "rows", 10 * numbers, 4 * numbers * where.dtype.itemsize, "few passes")


# plans of losses of whole rows: dense where a graph is small, in blocks beyond


def _blocks(where: Where, flops: float, numbers: float, entries: float, passes: int, pays: bool, why: str) -> Plan:
    """Triton on any device with kernels, else blocked where it pays.

    Args:
        numbers: of inputs and gradients. entries: of the dense matrices. passes: over these in the reference.
    """
    size = where.dtype.itemsize
    if where.device != "cpu" and "triton" in where.backends:
        return Plan("triton", "blocks", flops, size * numbers, "kernels of ours run on this device")
    if where.device != "cpu":
        pays, why = entries > _GPU_ENTRIES, f"{entries:.3g} entries against {_GPU_ENTRIES} that may be held"
    if pays and "blocked" in where.backends:
        return Plan("blocked", "blocks", flops, size * numbers, why)
    why = "no other backend has it here" if pays else why
    return Plan("eager", "dense", flops, size * (numbers + passes * entries), why)


def _rows(least: int, signature: Signature, where: Where) -> Plan:
    """Corresponding rows or columns of two matrices."""
    entries = prod(signature[0])
    why = f"{entries} entries against {least}"
    return _blocks(where, 20 * entries, 3 * entries, entries, 20, entries >= least, why)


def _edge_rows(
    least: int,
    width: Callable[[Signature], int],
    relation: Callable[[Signature], str],
    signature: Signature,
    where: Where,
) -> Plan:
    """Rows of edges; ``width`` and ``relation`` read the second network's width and the relation."""
    x, y, other = signature[0], signature[1], width(signature)
    n, m = x[-2], (x if y is None else y)[-2]
    entries = prod(x[:-2]) * n * m
    if relation(signature) not in INNER:
        least = 2**20  # distances are computed again for the gradient
    numbers = 2 * prod(x[:-2]) * (n + m) * (x[-1] + other)
    flops = 2 * entries * (3 * x[-1] + other)
    return _blocks(where, flops, numbers, entries, 16, entries >= least, f"{entries} edges against {least}")


def _rkd_distance(signature: Signature, where: Where) -> Plan:
    (n, d), (_, e) = signature[0], signature[1]
    numbers = n * (2 * d + e) + 4 * n * n
    return _blocks(where, n * n * (3 * d + e), numbers, n * n, 24, n >= 160, f"{n} nodes against 160")


def _rkd_angle(signature: Signature, where: Where) -> Plan:
    (n, d), (_, e), triplets = signature[0], signature[1], (signature[3] - signature[2]) * signature[0][0] ** 2
    flops, numbers = 16 * triplets + 2 * n * n * (2 * d + e), n * (2 * d + e) + 6 * n * n
    return _blocks(where, flops, numbers, triplets, 16, n >= 96, f"{n} nodes against 96")


def _knn(signature: Signature, where: Where) -> Plan:
    (n, d), k = signature[0], signature[1]
    least = max(1024, 128 * k)
    why = f"{n} nodes, groups of columns pay from {least}"
    return _blocks(where, 2 * n * n * d, n * d + 3 * n * k, n * n, 6, n >= 4096 or n >= least, why)


Planner = Callable[[Signature, Where], Plan]
"""Only backends that :class:`Where` names may be chosen."""

PLANNERS: dict[str, Planner] = {
    "center_normalize": _row_map,
    "damped_column_pearson": partial(_rows, 0),
    "damped_row_pearson": partial(_rows, 0),
    "edge_kl": partial(_edge_rows, 2**15, lambda s: s[2][-1], lambda s: s[4]),
    "edge_pkt": partial(_edge_rows, 2**14, lambda s: s[2][-1], lambda s: "cosine"),
    "edge_sum": _edge_sum,
    "ega_sums": _ega_sums,
    "info_nce": partial(_edge_rows, 2**18, lambda s: 0, lambda s: s[3]),
    "joint_gram": _joint_gram,
    "knn": _knn,
    "node_sum": _node_sum,
    "rkd_angle": _rkd_angle,
    "rkd_distance": _rkd_distance,
    "row_kl": partial(_rows, 2**13),
    "row_pearson": partial(_rows, 0),
    "similarity": _similarity,
    "unit_edge_sum": _unit_edge_sum,
    "unit_rows": _row_map,
}
