"""DIST within samples: damped correlation of corresponding rows of two matrices of probabilities."""

from torch import Tensor

from benchmarks.case import Case, op, random
from benchmarks.official.logits import correlation


def inputs(n: int, c: int) -> tuple[Tensor, ...]:
    """Probabilities of n samples over c classes."""
    return random(n, c).softmax(1), random(n, c, seed=1).softmax(1)


CASES = [
    Case(
        "damped_row_pearson",
        ((256, 100), (8192, 1000)),
        inputs,
        lambda s, t: op("damped_row_pearson")(s, t, 1e-8),
        lambda s, t: correlation(s, t),
        lambda n, c: (16 * n * c, 5 * n * c),
    )
]
