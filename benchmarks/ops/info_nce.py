"""Contrast of each row with its positive among n: n x d."""

import torch
from torch import Tensor

from benchmarks.case import Case, op, pair
from benchmarks.official.samples import info_nce


def inputs(n: int, d: int) -> tuple[Tensor, ...]:
    """Each row's positive is the teacher's row of the same sample."""
    return (*pair(n, d), torch.arange(n))


CASES = [
    Case(
        "info_nce",
        ((256, 512), (2048, 512)),
        inputs,
        lambda x, y, positives: op("info_nce")(x, y, positives, "cosine", 0.1),
        lambda x, y, positives: info_nce(x, y, positives, 0.1),
        lambda n, d: (6 * n * n * d, 4 * n * d),
    )
]
