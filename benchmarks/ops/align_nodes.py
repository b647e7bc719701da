"""The teacher-student node matrix against the identity, through the door that distillers use: n x d."""

import torch
from torch import Tensor

from benchmarks.case import Case, pair
from benchmarks.official.samples import rows
from graphkd.graphs.align import NodeKernel, align_nodes
from graphkd.graphs.alignments import MSE
from graphkd.graphs.relations import pearson


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of squares."""
    target = lambda: torch.eye(len(student), dtype=student.dtype, device=student.device)  # noqa: E731
    return align_nodes(student, teacher, pearson, MSE, target, NodeKernel("pearson", "identity", 0, lambda: teacher))


def official(student: Tensor, teacher: Tensor) -> Tensor:
    """EGA's node matrix."""
    matrix = rows(teacher) @ rows(student).T
    return (matrix - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)).square().mean()


CASES = [
    Case(
        "align_nodes",
        ((256, 512), (4096, 256)),
        pair,
        ours,
        official,
        lambda n, d: (min(4 * n * n * d, 6 * n * d * d), 5 * n * d),
    )
]
