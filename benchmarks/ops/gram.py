"""Inner products of n and m nodes of width d."""

import torch

from benchmarks.case import Case, op, random

CASES = [
    Case(
        "gram",
        ((256, 100, 512), (4096, 1000, 512)),
        lambda n, m, d: (random(n, d), random(m, d, seed=1)),
        op("gram"),
        lambda x, y: torch.einsum("nd,md->nm", x, y),
        lambda n, m, d: (4 * n * m * d, 2 * n * m + 2 * n * d + 2 * m * d),
    )
]
