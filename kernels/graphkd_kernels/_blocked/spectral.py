r"""Spectral residual without a Laplacian: :math:`R = U - \hat A U - U \Lambda`, :math:`\hat A = D^{-1/2} A D^{-1/2}`.

For :math:`A = Y Y^\top` the product :math:`\hat A U = s \odot Y (Y^\top (s \odot U))` with :math:`s = d^{-1/2}` costs
two thin products; for a Gaussian A it is a pass over blocks of rows, after one for the degrees.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels.reference import similarity
from graphkd_kernels.reference.spectral import LEAST_DEGREE

_ENTRIES = 2**20  # of one block of affinities


def low_rank(xs: Tensor, basis: Tensor, values: Tensor) -> Tensor:
    """|L U - U diag(values)|^2 for A = xs xs'. Shapes: (*b, n, d), (*b, n, k), (*b, k) -> (*b)."""
    scale = (xs @ xs.sum(-2, keepdim=True).mT).clamp_min(LEAST_DEGREE).rsqrt()
    smooth = scale * (xs @ (xs.mT @ (scale * basis)))
    return _residual(basis, smooth, values)


def gaussian(xs: Tensor, basis: Tensor, values: Tensor, gamma: float, again: bool = True) -> Tensor:
    """|L U - U diag(values)|^2 for A_ij = exp(-gamma |x_i - x_j|^2); blocks are computed again in the backward pass."""
    parts = row_slices(xs.shape[-2], xs[..., 0].numel(), _ENTRIES)
    weights = similarity(xs, None, "rbf", gamma) if len(parts) == 1 else None

    def product(vectors: Tensor) -> Tensor:
        def block(part: slice) -> Tensor:
            return similarity(xs[..., part, :], xs, "rbf", gamma) @ vectors

        if weights is not None:
            return weights @ vectors
        return torch.cat([checkpoint(block, i, use_reentrant=False) if again else block(i) for i in parts], -2)

    scale = product(torch.ones_like(xs[..., :1])).clamp_min(LEAST_DEGREE).rsqrt()
    return _residual(basis, scale * product(scale * basis), values)


def _residual(basis: Tensor, smooth: Tensor, values: Tensor) -> Tensor:
    return (basis - smooth - basis * values.unsqueeze(-2)).square().sum((-2, -1))
