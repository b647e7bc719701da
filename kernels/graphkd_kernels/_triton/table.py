"""Operation -> implementation; each module of kernels has ``OPERATIONS`` and ``CASES`` of its own, joined here."""

from collections.abc import Callable
from typing import Any

from graphkd_kernels._triton import dist, edge_softmax, knn, pkt, rkd, rkd_angle, row_losses, spectral

from graphkd_kernels._triton import edge_sum, ega_sums, node_sum, similarity, unit_edge_sum  # isort: skip
from graphkd_kernels._triton.cases import Case

PRODUCTS = (edge_sum, ega_sums, node_sum, similarity, unit_edge_sum)
ROWS = (dist, edge_softmax, knn, pkt, rkd, rkd_angle, row_losses, spectral)
MODULES = (*PRODUCTS, *ROWS)
OPERATIONS: dict[str, Callable[..., Any]] = {name: op for module in MODULES for name, op in module.OPERATIONS.items()}
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
