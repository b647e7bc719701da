"""Normalisation and Gram in one: cosines of n and m nodes of width d."""

from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.case import Case, op, random
from benchmarks.peers import metric_cosine


def ours(x: Tensor, y: Tensor) -> Tensor:
    """Cosines."""
    return op("similarity")(x, y, "cosine")


CASES = [
    Case(
        "similarity",
        ((256, 100, 512), (4096, 1000, 512)),
        lambda n, m, d: (random(n, d), random(m, d, seed=1)),
        ours,
        lambda x, y: normalize(x, dim=1) @ normalize(y, dim=1).T,
        lambda n, m, d: (4 * n * m * d, 2 * n * m + 5 * n * d + 2 * m * d),
        peers={"pytorch-metric-learning": metric_cosine},
    )
]
