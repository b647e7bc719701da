r"""``spectral_residual`` without a Laplacian.

With :math:`\hat A = D^{-1/2} A D^{-1/2}` the residual is :math:`R = U - \hat A U - U \Lambda`.

For :math:`A = Y Y^\top` the product :math:`\hat A U = s \odot Y (Y^\top (s \odot U))` with :math:`s = d^{-1/2}` costs
two thin products; for a Gaussian A it is a pass over blocks of rows, after one for the degrees.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graphkd_kernels._blocked.blocks import row_slices
from graphkd_kernels.autograd import transformed
from graphkd_kernels.precision import widened
from graphkd_kernels.reference import similarity
from graphkd_kernels.reference.spectral_residual import LEAST_DEGREE

__all__ = ["spectral_residual"]
_ENTRIES = 2**20  # of one block of affinities


def _low_rank(xs: Tensor, basis: Tensor) -> Tensor:
    """The smoothed basis for A = xs xs'. Shapes: (*b, n, d), (*b, n, k) -> (*b, n, k)."""
    scale = (xs @ xs.sum(-2, keepdim=True).mT).clamp_min(LEAST_DEGREE).rsqrt()
    return scale * (xs @ (xs.mT @ (scale * basis)))


def _gaussian(xs: Tensor, basis: Tensor, gamma: float) -> Tensor:
    """The same for A_ij = exp(-gamma |x_i - x_j|^2); blocks are computed again in the backward pass."""
    parts, again = row_slices(xs.shape[-2], xs[..., 0].numel(), _ENTRIES), not transformed()
    weights = similarity(xs, None, "rbf", gamma) if len(parts) == 1 else None

    def product(vectors: Tensor) -> Tensor:
        def block(part: slice) -> Tensor:
            return similarity(xs[..., part, :], xs, "rbf", gamma) @ vectors

        if weights is not None:
            return weights @ vectors
        return torch.cat([checkpoint(block, i, use_reentrant=False) if again else block(i) for i in parts], -2)

    scale = product(torch.ones_like(xs[..., :1])).clamp_min(LEAST_DEGREE).rsqrt()
    return scale * product(scale * basis)


@widened
def spectral_residual(xs: Tensor, basis: Tensor, values: Tensor, affinity: str = "gram", gamma: float = 1.0) -> Tensor:
    """|L U - U diag(values)|^2 of each graph."""
    smooth = _low_rank(xs, basis) if affinity == "gram" else _gaussian(xs, basis, gamma)
    return (basis - smooth - basis * values.unsqueeze(-2)).square().sum((-2, -1))
