"""Rows centred and scaled to unit length: n x d."""

from benchmarks.case import Case, op, random
from benchmarks.official.samples import rows

CASES = [
    Case(
        "center_normalize",
        ((256, 512), (8192, 512)),
        lambda n, d: (random(n, d),),
        op("center_normalize"),
        rows,
        lambda n, d: (10 * n * d, 5 * n * d),
    )
]
