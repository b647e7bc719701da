"""EGA's node term: correlations of the teacher's nodes with the student's against the identity: n x d."""

import torch
from torch import Tensor

from benchmarks.case import Case, op, pair
from benchmarks.official.samples import rows


def official(student: Tensor, teacher: Tensor) -> Tensor:
    """The whole node matrix."""
    matrix = rows(teacher) @ rows(student).T
    return (matrix - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)).square().sum()


CASES = [
    Case(
        "node_sum",
        ((256, 512), (4096, 512)),
        pair,
        lambda s, t: op("node_sum")(s, t, "pearson", "identity", 0),
        official,
        lambda n, d: (min(4 * n * n * d, 6 * n * d * d), 4 * n * d),
    )
]
