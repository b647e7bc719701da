"""The student's Laplacian on the teacher's k smoothest eigenvectors: n x d, k."""

import torch
from torch import Tensor

from benchmarks.case import Case, op, random


def inputs(n: int, d: int, k: int) -> tuple[Tensor, ...]:
    """Positive nodes, an orthonormal basis and eigenvalues in [0, 1]."""
    basis, _ = torch.linalg.qr(random(n, k, seed=1))
    return random(n, d).abs(), basis, torch.linspace(0.1, 0.9, k)


def official(nodes: Tensor, basis: Tensor, values: Tensor) -> Tensor:
    """The dense Laplacian, then its product."""
    affinity = nodes @ nodes.T
    scale = affinity.sum(1).rsqrt()
    laplacian = torch.eye(len(nodes), dtype=nodes.dtype, device=nodes.device) - scale[:, None] * affinity * scale
    return (laplacian @ basis - basis * values).square().sum()


CASES = [
    Case(
        "spectral_residual",
        ((256, 64, 8), (2048, 128, 8)),
        inputs,
        op("spectral_residual"),
        official,
        lambda n, d, k: (12 * n * d * k, 3 * n * d + 3 * n * k),
        check_at=lambda shape: shape,
    )
]
