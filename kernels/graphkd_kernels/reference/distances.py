"""Squared distances that keep their digits: only rows that are equal are at distance 0.

|x|^2 + |y|^2 - 2 x.y loses the digits that two close rows share. So there are three steps, each taken where the one
before is not enough: products in float32; products in float64; differences of single pairs. Why, and what each costs:
kernels/README.md.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graphkd_kernels.autograd import transformed
from graphkd_kernels.grams import diagonal

__all__ = ["squared_distances"]
_CLOSE = 2**17  # eps of both sizes: a squared distance below it keeps fewer than five digits
_ROUNDING = 16  # eps of both sizes: as much may be left of the squared distance of equal rows
_NUMBERS = 2**20  # of the differences formed at once

Products = Callable[[torch.dtype], tuple[Tensor, Tensor]]
"""Squared distances from products in a type, and the sums of both squared sizes."""


def squared_distances(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """|x_i - y_j|^2; equal rows are at 0, without gradient."""
    return wide_squares(x, y).to(x.dtype)


def wide_squares(
    x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"], largest: bool = False
) -> Float[Tensor, "*b n m"]:
    """Squared distances in float64 where some rows are close, else in the type of x.

    Args:
        largest: two rows are close beside the largest row, not beside their own sizes.
    """

    def products(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return _from_products(*centered(x, y, dtype))

    return settled(x, y, products, 0 if x is y else None, largest)


def centered(x: Tensor, y: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Both sets around the mean of y: distances stay, the cancellation of a large offset goes."""
    others = y.to(dtype)
    shift = others.mean(-2, keepdim=True).detach()
    others = others - shift
    return (others if x is y else x.to(dtype) - shift), others


def _from_products(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances from the products of centred rows, and the sums of both squared sizes."""
    products = x @ y.mT
    if x is y:  # sizes from the same product as the rest: the diagonal is 0
        rows = columns = diagonal(products)
    else:
        rows, columns = x.square().sum(-1), y.square().sum(-1)
    sizes = rows.unsqueeze(-1) + columns.unsqueeze(-2)
    return sizes - 2 * products, sizes


def settled(x: Tensor, y: Tensor, products: Products, own: int | None, largest: bool = False) -> Tensor:
    """Squared distances by as many steps as the rows need, in the type of the last one.

    Args:
        x, y: the rows themselves.
        products: how to form the matrix.
        own: the column of the first row itself, where both are of the same set.
        largest: as of :func:`wide_squares`.
    """
    if not can_look(x):
        squares, sizes = products(widest(x))
        return torch.where(squares <= _ROUNDING * torch.finfo(squares.dtype).eps * sizes, 0.0, squares)
    squares, sizes = products(torch.promote_types(x.dtype, torch.float32))
    close = is_close(squares, sizes, largest)
    if own is not None:
        close.diagonal(own, -2, -1).fill_(False)
    if not close.any():
        return squares
    equal = _equal_rows(close, x.detach(), y.detach())
    close &= ~equal
    if squares.dtype != widest(x) and close.any():
        squares, sizes = products(widest(x))
        close &= is_close(squares, sizes, largest)
    if close.any():
        squares = _from_differences(squares, close, x.detach(), y.detach())
    return torch.where(equal, 0.0, squares)


def can_look(x: Tensor) -> bool:
    """Whether a branch may depend on values: not on a GPU, for which the host would wait, and not while traced."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not transformed()


def widest(x: Tensor) -> torch.dtype:
    """The most exact type of the device."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def is_close(squares: Tensor, sizes: Tensor, largest: bool = False) -> Bool[Tensor, "*b n m"]:
    """Squared distances that have lost digits beside the sums of both squared sizes."""
    squares, sizes = squares.detach(), sizes.detach()
    if largest and sizes.numel():
        sizes = sizes.amax()
    return squares < _CLOSE * torch.finfo(squares.dtype).eps * sizes  # a NaN is not


def _equal_rows(close: Bool[Tensor, "*b n m"], x: Tensor, y: Tensor) -> Bool[Tensor, "*b n m"]:
    """Those close pairs whose rows are equal, number by number."""
    rows, columns = close.any(-1), close.any(-2)
    sources, targets = x[rows], y[columns]
    _, names = torch.unique(torch.cat([sources, targets]), dim=0, return_inverse=True)
    name_x, name_y = names.new_full(rows.shape, -1), names.new_full(columns.shape, -1)
    name_x[rows], name_y[columns] = names[: len(sources)], names[len(sources) :]
    equal: Tensor = close & (name_x.unsqueeze(-1) == name_y.unsqueeze(-2))
    return equal


def _from_differences(squares: Tensor, pairs: Bool[Tensor, "*b n m"], x: Tensor, y: Tensor) -> Tensor:
    """Values of some pairs from their differences; the gradient of the products, whose sums keep its digits, stays."""
    exact = squares.detach().clone()
    for at in torch.split(pairs.nonzero(), max(1, _NUMBERS // max(1, x.shape[-1]))):
        *graph, i, j = at.unbind(-1)
        apart = x[(*graph, i)].to(squares.dtype) - y[(*graph, j)].to(squares.dtype)
        exact[(*graph, i, j)] = torch.linalg.vecdot(apart, apart)
    return squares + (exact - squares.detach())
