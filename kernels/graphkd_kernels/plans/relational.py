"""Plans of row losses, RKD, neighbours and the spectral residual: dense where a graph is small, in blocks beyond.

The sizes at which blocks begin to pay were measured on a CPU, against the reference with gradient.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from graphkd_kernels.plans.plan import Plan, Signature, planner

_GPU_ENTRIES = 2**22  # of a dense matrix that a GPU without kernels of ours may as well hold


@dataclass(frozen=True, slots=True)
class _Work:
    """What an operation costs either way: FLOPs, numbers of its inputs and gradients, entries of its dense matrices."""

    flops: float
    numbers: float
    entries: float
    passes: int  # over the dense matrices in the reference


def _choose(work: _Work, pays: bool, why: str, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    size = dtype.itemsize
    if device != "cpu" and "triton" in backends:
        return Plan("triton", "blocks", work.flops, size * work.numbers, "kernels of ours run on this device")
    if device != "cpu":
        pays, why = work.entries > _GPU_ENTRIES, f"{work.entries:.3g} entries against {_GPU_ENTRIES} that may be held"
    if pays and "blocked" in backends:
        return Plan("blocked", "blocks", work.flops, size * work.numbers, why)
    moved = size * (work.numbers + work.passes * work.entries)
    return Plan("eager", "dense", work.flops, moved, why if not pays else "no other backend has it here")


def _nodes(signature: Signature) -> tuple[int, int, int, int]:
    """Graphs, sources, targets and the width of the first two arguments."""
    x, y = signature[0], signature[1]
    return prod(x[:-2]), x[-2], (x if y is None else y)[-2], x[-1]


@planner("row_kl")
def row_kl(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Softmax rows of two matrices; PyTorch's own softmax is as fast while all fits into the cache."""
    return _rows(signature, 2**18, dtype, device, backends)


@planner("row_pearson", "damped_row_pearson", "damped_column_pearson")
def pearson(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Correlations of the rows or columns of two matrices."""
    return _rows(signature, 2**14, dtype, device, backends)


def _rows(signature: Signature, least: int, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    entries = prod(signature[0])
    work = _Work(20 * entries, 3 * entries, entries, 20)
    return _choose(work, entries >= least, f"{entries} entries against {least}", dtype, device, backends)


@planner("edge_kl")
def edge_kl(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Softmax rows of edges of two networks."""
    return _edges(signature, signature[2][-1], signature[4], 2**15, dtype, device, backends)


@planner("edge_pkt")
def edge_pkt(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """PKT's rows of edges of two networks."""
    return _edges(signature, signature[2][-1], "cosine", 2**14, dtype, device, backends)


@planner("info_nce")
def info_nce(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Softmax rows of one relation matrix."""
    return _edges(signature, 0, signature[3], 2**18, dtype, device, backends)


def _edges(
    signature: Signature,
    other_width: int,
    relation: str,
    least: int,
    dtype: torch.dtype,
    device: str,
    backends: frozenset[str],
) -> Plan:
    graphs, n, m, width = _nodes(signature)
    entries = graphs * n * m
    if relation not in ("gram", "cosine", "pearson"):
        least = 2**20  # distances are computed again for the gradient
    work = _Work(2 * entries * (3 * width + other_width), 2 * graphs * (n + m) * (width + other_width), entries, 16)
    return _choose(work, entries >= least, f"{entries} edges against {least}", dtype, device, backends)


@planner("rkd_distance")
def rkd_distance(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Distances of all pairs, half of them computed."""
    (n, d), (_, e) = signature[0], signature[1]
    work = _Work(n * n * (3 * d + e), n * (2 * d + e) + 4 * n * n, n * n, 24)
    return _choose(work, n >= 160, f"{n} nodes against 160", dtype, device, backends)


@planner("rkd_angle")
def rkd_angle(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Angles of all triplets, half of them computed."""
    (n, d), (_, e), vertices = signature[0], signature[1], signature[3] - signature[2]
    triplets = vertices * n * n
    work = _Work(16 * triplets + 2 * n * n * (2 * d + e), n * (2 * d + e) + 6 * n * n, triplets, 16)
    return _choose(work, n >= 96, f"{n} nodes against 96", dtype, device, backends)


@planner("knn", "knn_graph")
def knn(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """Nearest neighbours among all nodes."""
    (n, d), k = signature[0], signature[1]
    pays = n >= 4096 or n >= max(1024, 128 * k)
    work = _Work(2 * n * n * d, n * d + 3 * n * k, n * n, 6)
    return _choose(work, pays, f"{n} nodes, groups of columns pay from {max(1024, 128 * k)}", dtype, device, backends)


@planner("spectral_residual")
def spectral_residual(signature: Signature, dtype: torch.dtype, device: str, backends: frozenset[str]) -> Plan:
    """A product with the student's Laplacian."""
    *batch, n, d = signature[0]
    graphs, k = prod(batch), signature[1][-1]
    arguments: tuple[Any, ...] = signature[3:]
    if not arguments or arguments[0] == "gram":
        work = _Work(24 * graphs * n * d * k, graphs * n * (2 * d + k), graphs * n * n, 12)
        return _choose(work, n >= max(128, 2 * k), f"{n} nodes, rank {d}", dtype, device, backends)
    entries = graphs * n * n
    work = _Work(12 * entries * (d + k), graphs * n * (2 * d + k), entries, 16)
    return _choose(work, entries >= 2**24, f"{entries} affinities against {2**24}", dtype, device, backends)
