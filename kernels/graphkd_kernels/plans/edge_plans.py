"""Plans of inner-product edges, of the node terms that go with them, and of row maps."""

from math import prod

import torch

from graphkd_kernels.plans import edges
from graphkd_kernels.plans.edges import INNER, Sizes
from graphkd_kernels.plans.plan import Plan, Shape, Signature, fused, planner

_FEW_PAIRS = 2**17  # below it, blocks of rows cost a CPU more in steps than they spare in passes


@planner("edge_sum")
def edge_sum(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Sums of penalties of edges."""
    xs, ys, xt, _, relation, penalty = signature[:6]
    sizes = Sizes.of(xs, ys, xt)
    if relation not in INNER or penalty != "square":
        work = sizes.pairs * (2 * (sizes.student + sizes.teacher) + (4 if sizes.targets else 2) * sizes.student)
        pays = sizes.graphs * sizes.pairs >= _FEW_PAIRS
        return _plan(backends, device, "rows", sizes, work, dtype, "no D x D form exists", pays)
    path = edges.square_path(sizes)
    work = edges.pairs_work(sizes) if path == "pairs" else edges.grams_work(sizes)
    return _plan(backends, device, path, sizes, work, dtype, _least(path))


@planner("unit_edge_sum")
def unit_edge_sum(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Squared differences of unit rows of Grams."""
    sizes = Sizes.of(*signature[:3])
    path = edges.unit_path(sizes)
    rows = sizes.sources + sizes.targets
    work = (
        26 * rows * sizes.student**2 if path == "D x D" else (8 if sizes.targets else 6) * sizes.pairs * sizes.student
    )
    pays = sizes.graphs * sizes.pairs >= _FEW_PAIRS
    return _plan(backends, device, path, sizes, work, dtype, _least(path), pays)


@planner("ega_sums")
def ega_sums(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """EGA's two sums."""
    (n, d), path = signature[0], edges.ega_path(*signature[0])
    work = 8 * n * n * d if path == "pairs" else 9 * n * d * d
    return _plan(backends, device, path, Sizes(1, n, 0, d, d), work, dtype, _least(path))


@planner("joint_gram")
def joint_gram(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Gram matrices of joined rows: matrix products, the gradient in blocks of rows."""
    sizes = Sizes.of(signature[0], None, signature[1])
    work, moved = edges.grams_work(sizes), _bytes(sizes, dtype)
    (n, s), (_, t) = signature[:2]
    pays = n >= 512 and n * (s + t) >= 2**17  # below, the pieces of the matrix cost more than its one product
    return fused(backends - {"triton"}, device, "D x D", work, moved, "matrix products", pays)


@planner("node_sum")
def node_sum(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Node terms."""
    (m, d), (n, _), _, target = signature[:4]
    path = "rows" if target == "diagonal" else edges.node_path(m, n, d)
    work = {"rows": 6 * n * d, "pairs": 4 * n * m * d, "D x D": (3 * m + n) * d * d}[path]
    return _plan(backends, device, path, Sizes(1, m + n, 0, d, 0), work, dtype, _least(path))


@planner("similarity")
def similarity(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Matrices of all pairs."""
    x, y, relation = signature[:3]
    sizes = Sizes.of(x, y, x)
    work, moved = (
        4 * sizes.graphs * sizes.pairs * sizes.student,
        _bytes(sizes, dtype) + 2 * sizes.pairs * dtype.itemsize,
    )
    pays = relation in INNER and sizes.graphs * sizes.pairs * sizes.student >= 2**22
    return fused(backends, device, "matrix", work, moved, "the matrix is the result", pays)


@planner("center_normalize", "unit_rows")
def row_map(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Row maps."""
    shape: Shape = signature[0]
    numbers = prod(shape)
    return fused(backends, device, "rows", 10 * numbers, 4 * numbers * dtype.itemsize, "few passes", numbers >= 2**14)


def _plan(
    backends: frozenset[str],
    device: str,
    path: str,
    sizes: Sizes,
    work: int,
    dtype: torch.dtype,
    why: str,
    pays: bool = True,
) -> Plan:
    return fused(backends, device, path, sizes.graphs * work, _bytes(sizes, dtype), why, pays)


def _bytes(sizes: Sizes, dtype: torch.dtype) -> int:
    """Inputs read and the student's gradient written."""
    rows = sizes.sources + sizes.targets
    return sizes.graphs * rows * (2 * sizes.student + sizes.teacher) * dtype.itemsize


def _least(path: str) -> str:
    return {
        "pairs": "few nodes for their width: the matrix of pairs is less work than Gram matrices of features",
        "D x D": "many nodes for their width: Gram matrices of features are less work, and no matrix of pairs exists",
        "rows": "row by row, the matrix of pairs is never whole",
    }[path]
