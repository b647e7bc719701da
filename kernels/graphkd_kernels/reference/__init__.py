"""The truth: every operation written the obvious way, in plain differentiable PyTorch, for any dtype and device.

Tests compare with these functions, benchmarks divide by them, the ``eager`` backend runs them; there is no second copy.
Rows are nodes. Degenerate rows and roots of zero are masked (value 0, gradient 0); a NaN that comes in goes out.
A second node set of ``None`` means the first one: the same nodes, and g_ii from the same product as g_ij.
"""

from graphkd_kernels.reference.distances import squared_distances
from graphkd_kernels.reference.edges import (
    edge_kl,
    edge_pkt,
    edge_sum,
    ega_sums,
    info_nce,
    joint_gram,
    node_sum,
    unit_edge_sum,
)
from graphkd_kernels.reference.pairs import (
    ROW_MAPS,
    gram,
    knn,
    knn_graph,
    pair_squares,
    similarity,
    unit_gram,
)
from graphkd_kernels.reference.rkd import rkd_angle, rkd_angles, rkd_distance, rkd_distances
from graphkd_kernels.reference.rows import (
    center_normalize,
    damped_column_pearson,
    damped_row_pearson,
    row_kl,
    row_pearson,
    safe_sqrt,
    unit_rows,
)
from graphkd_kernels.reference.spectral import spectral_residual

__all__ = [
    "ROW_MAPS",
    "center_normalize",
    "damped_column_pearson",
    "damped_row_pearson",
    "edge_kl",
    "edge_pkt",
    "edge_sum",
    "ega_sums",
    "gram",
    "info_nce",
    "joint_gram",
    "knn",
    "knn_graph",
    "node_sum",
    "pair_squares",
    "rkd_angle",
    "rkd_angles",
    "rkd_distance",
    "rkd_distances",
    "row_kl",
    "row_pearson",
    "safe_sqrt",
    "similarity",
    "spectral_residual",
    "squared_distances",
    "unit_edge_sum",
    "unit_gram",
    "unit_rows",
]
