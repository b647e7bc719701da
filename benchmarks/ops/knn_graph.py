"""The k-nearest-neighbour graph in PyG's format: n x d, k."""

import torch
from torch import Tensor

from benchmarks.case import Case, op, random
from benchmarks.official.samples import nearest


def official(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """All distances, then the smallest of each row."""
    targets, squares = nearest(x, k)
    sources = torch.arange(len(x), device=x.device).repeat_interleave(k)
    return torch.stack([sources, targets.flatten()]), squares.flatten()


CASES = [
    Case(
        "knn_graph",
        ((256, 64), (4096, 128)),
        lambda n, d: (random(n, d),),
        lambda x: op("knn_graph")(x, 10),
        lambda x: official(x, 10),
        lambda n, d: (2 * n * n * d, n * d + 20 * n),
        students=0,
    )
]
