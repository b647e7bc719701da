"""DIST within classes: damped correlation of columns of two matrices of probabilities; and all of DIST from logits."""

from torch import Tensor

from benchmarks.case import Case, op, random
from benchmarks.official.logits import correlation, dist
from benchmarks.peers import torchdistill_dist
from graphkd import functional


def inputs(n: int, c: int) -> tuple[Tensor, ...]:
    """Probabilities of n samples over c classes."""
    return random(n, c).softmax(1), random(n, c, seed=1).softmax(1)


CASES = [
    Case(
        "damped_column_pearson",
        ((256, 100), (8192, 1000)),
        inputs,
        lambda s, t: op("damped_column_pearson")(s, t, 1e-8),
        lambda s, t: correlation(s.T, t.T),
        lambda n, c: (16 * n * c, 5 * n * c),
    ),
    Case(
        "damped_column_pearson.dist",
        ((256, 100), (4096, 1000)),
        lambda n, c: (3 * random(n, c), 3 * random(n, c, seed=1)),
        functional.dist,
        dist,
        lambda n, c: (40 * n * c, 5 * n * c),
        near={1: 0},
        peers={"torchdistill": torchdistill_dist},
        long=((8192, 1000),),
    ),
]
