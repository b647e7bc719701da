"""Operation -> implementation; each module of kernels has dictionaries ``OPERATIONS`` and ``CASES`` of its own, joined here."""

from collections.abc import Callable
from typing import Any

from graphkd_kernels._triton import (
    dist,
    edge_softmax,
    edge_sum,
    knn,
    node_sum,
    pkt,
    rkd,
    rkd_angle,
    row_losses,
    similarity,
    spectral,
)
from graphkd_kernels._triton.cases import Case

MODULES = (
    edge_sum, node_sum, similarity,
    edge_softmax, row_losses, dist, pkt, rkd, rkd_angle, knn, spectral,
)  # fmt: skip
OPERATIONS: dict[str, Callable[..., Any]] = {name: op for module in MODULES for name, op in module.OPERATIONS.items()}
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
