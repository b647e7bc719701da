"""Maps of single rows: unit length, centred or not. Roots and expectations whose gradient at 0 is 0."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["center_normalize", "safe_sqrt", "unit_rows"]


def safe_sqrt(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Square root whose value and gradient at 0 are 0. No eps is added, so exact zeros stay exact."""
    zero = x <= 0  # a NaN is not <= 0 and passes
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


def unit_scale(x: Float[Tensor, "*b n d"]) -> tuple[Float[Tensor, "*b n d"], Float[Tensor, "*b n 1"]]:
    """Rows divided by a power of two near their largest number, and that power: their squares stay in range.

    The division is exact. The power is a constant to the gradient: what follows does not depend on a row's size.
    """
    largest = x.detach().abs().amax(-1, keepdim=True) if x.shape[-1] else x.new_zeros(*x.shape[:-1], 1)
    usual = (largest > 0) & (largest < torch.inf)
    power = torch.where(usual, largest / (2 * torch.frexp(largest).mantissa), 1.0)
    return x / power, power


def _scale_rows(x: Float[Tensor, "*b n d"], squares: Tensor, dead: Tensor) -> Float[Tensor, "*b n d"]:
    """Rows divided by the roots of their squares, dead ones to 0 with gradient 0; masks touch one number per row."""
    return x * torch.where(dead, 0.0, torch.where(dead, 1.0, squares).rsqrt())


def unit_rows(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """x / |x| for each row; a zero row stays zero and gets no gradient."""
    x, _ = unit_scale(x)
    squares = x.square().sum(-1, keepdim=True)
    return _scale_rows(x, squares, squares == 0)


def center_normalize(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """(x - mean) / |x - mean| for each row; a row that is constant up to rounding, relative to itself, becomes 0."""
    x, _ = unit_scale(x)
    mean = x.mean(dim=-1, keepdim=True)
    centered = x - mean
    squares = centered.square().sum(-1, keepdim=True)
    length, offset = squares.detach().sqrt(), mean.detach() * x.shape[-1] ** 0.5
    dead = length <= 4 * torch.finfo(x.dtype).eps * torch.hypot(length, offset)  # |x|^2 = |x - mean|^2 + d mean^2
    return _scale_rows(centered, squares, dead)


def expectation(p: Float[Tensor, "*b m"], x: Float[Tensor, "*b m"]) -> Float[Tensor, "*b"]:
    """Sum of p x over the last dimension, where what has probability 0 counts 0, also an infinite x (0 log 0 = 0)."""
    return (p * torch.where(p == 0, 0.0, x)).sum(-1)
