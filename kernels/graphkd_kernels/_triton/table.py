"""Operation -> implementation; each module of kernels has ``OPERATIONS`` and ``CASES`` of its own, joined here."""

from collections.abc import Callable
from typing import Any

from graphkd_kernels._triton import edge_sum, ega_sums, node_sum, similarity, unit_edge_sum
from graphkd_kernels._triton.cases import Case

MODULES = (edge_sum, ega_sums, node_sum, similarity, unit_edge_sum)
OPERATIONS: dict[str, Callable[..., Any]] = {name: op for module in MODULES for name, op in module.OPERATIONS.items()}
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
