"""Squared distances of n and m nodes of width d."""

import torch

from benchmarks.case import Case, op, random
from benchmarks.peers import metric_squared

CASES = [
    Case(
        "squared_distances",
        ((256, 100, 512), (4096, 1000, 512)),
        lambda n, m, d: (random(n, d), random(m, d, seed=1)),
        op("squared_distances"),
        lambda x, y: torch.cdist(x, y).square(),
        lambda n, m, d: (4 * n * m * d, 2 * n * m + 2 * n * d + 2 * m * d),
        peers={"pytorch-metric-learning": metric_squared},
    )
]
