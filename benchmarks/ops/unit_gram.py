"""Inner products of a node set, rows of unit length (SP, ICKD): n x d."""

from benchmarks.case import Case, op, random
from benchmarks.official.samples import unit_gram

CASES = [
    Case(
        "unit_gram",
        ((256, 512), (2048, 512)),
        lambda n, d: (random(n, d),),
        op("unit_gram"),
        unit_gram,
        lambda n, d: (4 * n * n * d, 2 * n * n + 2 * n * d),
    )
]
