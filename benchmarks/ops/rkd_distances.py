"""Distances within a node set over their mean: n x d."""

from benchmarks.case import Case, op, random
from benchmarks.official.samples import relative_distances

CASES = [
    Case(
        "rkd_distances",
        ((256, 512), (2048, 512)),
        lambda n, d: (random(n, d),),
        op("rkd_distances"),
        relative_distances,
        lambda n, d: (4 * n * n * d, 2 * n * n + 2 * n * d),
    )
]
