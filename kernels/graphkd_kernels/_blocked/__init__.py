"""Pure PyTorch with closed-form gradients and memory O(N D): the CPU's fast path, and the fallback on any device.

Operations have files of their names, as in ``reference/``; ``__all__`` of a file names them.
"""

from collections.abc import Callable
from typing import Any

from graphkd_kernels._blocked import (
    dist_sums,
    distances,
    edge_kl,
    edge_pkt,
    edge_sum,
    ega_sums,
    joint_gram,
    knn,
    node_sum,
    rkd_angle,
    rkd_distance,
    row_kl,
    row_pearson,
    rows,
    similarity,
    unit_edge_sum,
)

MODULES = (
    *(dist_sums, distances, edge_kl, edge_pkt, edge_sum, ega_sums, joint_gram, knn, node_sum, rkd_angle, rkd_distance),
    *(row_kl, row_pearson, rows, similarity, unit_edge_sum),
)
OPERATIONS: dict[str, Callable[..., Any]] = {name: getattr(each, name) for each in MODULES for name in each.__all__}
