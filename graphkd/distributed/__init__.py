"""Sums and rows over all ranks, and what is compared by them: see :mod:`graphkd.distributed.collectives`."""

from graphkd.distributed.collectives import (
    Traffic,
    alone,
    common_total,
    current_gather_limit,
    first_row,
    gather,
    gather_limit,
    maximum,
    mean_over_batch,
    once_only,
    rank,
    sizes,
    total,
    traffic,
    world_size,
)

__all__ = [
    "Traffic",
    "alone",
    "common_total",
    "current_gather_limit",
    "first_row",
    "gather",
    "gather_limit",
    "maximum",
    "mean_over_batch",
    "once_only",
    "rank",
    "sizes",
    "total",
    "traffic",
    "world_size",
]
