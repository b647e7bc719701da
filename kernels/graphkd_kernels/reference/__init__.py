"""The truth: every operation written the obvious way, in plain differentiable PyTorch, for any dtype and device.

Tests compare with these functions, benchmarks divide by them, the ``eager`` backend runs them; there is no second copy.
Rows are nodes. Degenerate rows and roots of zero are masked (value 0, gradient 0); a NaN that comes in goes out.
A second node set of ``None`` means the first one: the same nodes, and g_ii from the same product as g_ij.
"""

from graphkd_kernels.reference.dist_sums import dist_sums
from graphkd_kernels.reference.distances import squared_distances
from graphkd_kernels.reference.edge_kl import edge_kl, info_nce
from graphkd_kernels.reference.edge_pkt import edge_pkt
from graphkd_kernels.reference.edge_sum import edge_sum
from graphkd_kernels.reference.ega_sums import ega_sums
from graphkd_kernels.reference.joint_gram import joint_gram
from graphkd_kernels.reference.knn import knn
from graphkd_kernels.reference.node_sum import node_sum
from graphkd_kernels.reference.rkd_angle import rkd_angle, rkd_angles
from graphkd_kernels.reference.rkd_distance import rkd_distance
from graphkd_kernels.reference.row_kl import row_kl
from graphkd_kernels.reference.row_pearson import damped_column_pearson, damped_row_pearson, row_pearson
from graphkd_kernels.reference.rows import center_normalize, safe_sqrt, unit_rows
from graphkd_kernels.reference.similarity import ROW_MAPS, gram, similarity
from graphkd_kernels.reference.unit_edge_sum import unit_edge_sum

__all__ = [
    "ROW_MAPS",
    "center_normalize",
    "damped_column_pearson",
    "damped_row_pearson",
    "dist_sums",
    "edge_kl",
    "edge_pkt",
    "edge_sum",
    "ega_sums",
    "gram",
    "info_nce",
    "joint_gram",
    "knn",
    "node_sum",
    "rkd_angle",
    "rkd_angles",
    "rkd_distance",
    "row_kl",
    "row_pearson",
    "safe_sqrt",
    "similarity",
    "squared_distances",
    "unit_edge_sum",
    "unit_rows",
]
