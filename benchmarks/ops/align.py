"""Edges of two graphs compared through the door that distillers use: Pearson edges between n samples."""

from torch import Tensor

from benchmarks.case import Case, pair
from benchmarks.official.samples import rows
from graphkd import Edges
from graphkd.graphs.align import align
from graphkd.graphs.alignments import MSE
from graphkd.graphs.relations import pearson


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of squares."""
    edges = (Edges(x, x, pearson, name="pearson") for x in (student, teacher))
    return align(next(edges), next(edges), MSE)


CASES = [
    Case(
        "align",
        ((256, 512), (4096, 256)),
        pair,
        ours,
        lambda s, t: (rows(s) @ rows(s).T - rows(t) @ rows(t).T).square().mean(),
        lambda n, d: (min(4 * n * n * d, 8 * n * d * d), 5 * n * d),
        near={1: 0},
    )
]
