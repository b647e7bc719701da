"""Squared distances within a node set, and what their gradient is to the nodes. Formulas: kernels/README.md."""

import torch
from torch import Tensor

ROUNDING = 16.0  # eps: below it a squared distance is 0, as in the reference


def centered(x: Tensor) -> Tensor:
    """Rows around their mean: distances stay, the cancellation of a large offset in the Gram matrix goes."""
    return x - x.mean(-2, keepdim=True)


def subtract_sizes(products: Tensor, rows: Tensor, columns: Tensor, limit: float) -> Tensor:
    """Turn a block of products x_i . x_j into squared distances, in place; below the rounding they are 0.

    Args:
        products: (n, m), overwritten by the result.
        rows, columns: |x_i|^2 (n,) and |x_j|^2 (m,).
        limit: the rounding, in units of eps times the sum of both sizes.
    """
    sizes = rows.unsqueeze(-1) + columns.unsqueeze(-2)
    squares = products.mul_(-2).add_(sizes)
    rounding = squares <= sizes.mul_(limit * torch.finfo(products.dtype).eps)  # a NaN is not, and passes
    return squares.masked_fill_(rounding, 0.0)


def gradient_of_squares(weights: Tensor, x: Tensor) -> Tensor:
    """dx of sum_ij w_ij |x_i - x_j|^2 for symmetric w: 4 (diag(w 1) - w) x."""
    return (weights.sum(-1, keepdim=True) * x).sub_(weights @ x).mul_(4)
