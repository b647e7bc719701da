"""Squared distances within a node set: n x d."""

from benchmarks.case import Case, op, random
from benchmarks.official.samples import distances

CASES = [
    Case(
        "pair_squares",
        ((256, 512), (2048, 512)),
        lambda n, d: (random(n, d),),
        op("pair_squares"),
        lambda x: distances(x, squared=True),
        lambda n, d: (4 * n * n * d, 2 * n * n + 2 * n * d),
    )
]
