"""Pure PyTorch with closed-form gradients and memory O(N D): the CPU's fast path, and the fallback on any device.

Each module has a dictionary ``OPERATIONS`` of its own, joined here.
"""

from collections.abc import Callable
from typing import Any

from graphkd_kernels._blocked import edges, graph_rules, row_rules

OPERATIONS: dict[str, Callable[..., Any]] = edges.OPERATIONS | row_rules.OPERATIONS | graph_rules.OPERATIONS
