"""The only door to the kernels: operations on node sets, run by the backend in force.

``with graphkd.backend("eager"):`` asks for one by name (it runs or raises); by default ``"auto"`` picks.
A fused form of an edge alignment is found by its (relation, normalise, alignment); where there is none, the two blocks
are materialised. The author of a method never sees which.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from graphkd_kernels import dispatch

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
from graphkd.errors import BackendError
from graphkd.passing import align_passing as align_passing
from graphkd.row_ops import damped_column_pearson as damped_column_pearson
from graphkd.row_ops import damped_row_pearson as damped_row_pearson
from graphkd.row_ops import edge_kl as edge_kl
from graphkd.row_ops import edge_pkt as edge_pkt
from graphkd.row_ops import info_nce as info_nce
from graphkd.row_ops import knn as knn
from graphkd.row_ops import knn_graph as knn_graph
from graphkd.row_ops import positive_temperature as positive_temperature
from graphkd.row_ops import rkd_angle as rkd_angle
from graphkd.row_ops import rkd_distance as rkd_distance
from graphkd.row_ops import rkd_distances as rkd_distances
from graphkd.row_ops import row_kl as row_kl
from graphkd.row_ops import row_pearson as row_pearson
from graphkd.row_ops import spectral_residual as spectral_residual
from graphkd.typing import Float, Tensor


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
    """Squared distances of two node sets; equal nodes have no gradient. Raises: ShapeError if the widths differ."""
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
