"""Correlation of corresponding rows: n samples, c classes."""

from benchmarks.case import Case, op, pair
from benchmarks.official.samples import rows

CASES = [
    Case(
        "row_pearson",
        ((256, 100), (8192, 1000)),
        pair,
        op("row_pearson"),
        lambda s, t: (rows(s) * rows(t)).sum(1),
        lambda n, c: (16 * n * c, 5 * n * c),
        near={1: 0},
    )
]
