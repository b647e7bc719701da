"""The only door to the kernels: operations on node sets, run by the backend in force.

``with graphkd.backend("eager"):`` asks for one by name (it runs or raises); by default ``"auto"`` picks.
A fused form of an edge alignment is found by its (relation, normalise, alignment); where there is none, the two blocks
are materialised. The author of a method never sees which.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from graphkd_kernels import dispatch
from torch.utils.checkpoint import checkpoint

from graphkd.aligning import FUSED as FUSED
from graphkd.aligning import NodeKernel as NodeKernel
from graphkd.aligning import align as align
from graphkd.aligning import align_nodes as align_nodes
from graphkd.aligning import edge_nodes as edge_nodes
from graphkd.edge_ops import edge_sum as edge_sum
from graphkd.edge_ops import ega_sums as ega_sums
from graphkd.edge_ops import node_sum as node_sum
from graphkd.edge_ops import same_width as same_width
from graphkd.edge_ops import similarity as similarity
from graphkd.edge_ops import unit_edge_sum as unit_edge_sum
from graphkd.errors import BackendError, ShapeError
from graphkd.typing import Float, Int, Tensor

_ANGLES = 2**22  # entries of one block of angles: 16 MiB in float32


@contextmanager
def backend(name: str, precision: str = "high") -> Iterator[None]:
    """Use one kernel backend inside the ``with`` block.

    Args:
        name: ``"auto"``, ``"eager"``, ``"blocked"``, or another name of ``graphkd_kernels.available()``.
        precision: ``"high"`` (default: float32 with the sums and differences that keep its digits; float64 stays
            float64) or ``"exact"`` (float64 inside, for tests and debugging).

    Raises: BackendError for a backend that cannot run here, or another precision.
    """
    try:
        manager = dispatch.backend(name, precision)
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
