"""Spectral residual: what the student's Laplacian does wrong to the teacher's eigenvectors."""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.precision import widened
from graphkd_kernels.reference.similarity import similarity

__all__ = ["spectral_residual"]
LEAST_DEGREE = 1e-6  # degrees are clamped, not shifted


@widened
def spectral_residual(
    xs: Float[Tensor, "*b n d"],
    basis: Float[Tensor, "*b n k"],
    values: Float[Tensor, "*b k"],
    affinity: str = "gram",
    gamma: float = 1.0,
) -> Float[Tensor, "*b"]:
    """|L U - U diag(values)|^2 of each graph, L = I - D^-1/2 A D^-1/2, A = xs xs' ("gram") or the Gaussian ("rbf").

    Self-loops stay and negative affinities are not dropped; degrees are at least 1e-6.
    """
    weights = similarity(xs, None, affinity, gamma)
    scale = weights.sum(-1, keepdim=True).clamp_min(LEAST_DEGREE).rsqrt()
    laplacian = torch.eye(xs.shape[-2], dtype=xs.dtype, device=xs.device) - scale * weights * scale.mT
    return (laplacian @ basis - basis * values.unsqueeze(-2)).square().sum((-2, -1))
