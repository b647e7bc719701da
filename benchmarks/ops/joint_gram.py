"""The Gram matrix of both networks' joined rows, [S + T, S - T]'[S + T, S - T]: n x d."""

import torch
from torch import Tensor

from benchmarks.case import Case, op, pair


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    """Of rows as they are."""
    found: Tensor = op("joint_gram")(student, teacher, "gram")
    return found


def direct(student: Tensor, teacher: Tensor) -> Tensor:
    """The same as one product."""
    joined = torch.cat([student + teacher, student - teacher], -1)
    return torch.einsum("nk,nl->kl", joined, joined)


CASES = [
    Case(
        "joint_gram",
        ((256, 512), (4096, 512)),
        pair,
        ours,
        direct,
        lambda n, d: (8 * n * d * d, 4 * d * d + 4 * n * d),
    )
]
