"""The truth: every operation written the obvious way, in plain differentiable PyTorch, for any dtype and device.

Tests compare with this file, benchmarks divide by it, the ``eager`` backend runs it; there is no second copy.
Rows are nodes. Degenerate rows and roots of zero are masked (value 0, gradient 0); a NaN that comes in goes out.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def safe_sqrt(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Square root whose value and gradient at 0 are 0. No eps is added, so exact zeros stay exact."""
    zero = x <= 0  # a NaN is not <= 0 and passes
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


def _length(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n 1"]:
    # Not Tensor.norm: in float32 on the CPU it loses up to 7e-4 on long rows, a sum of squares does not.
    return x.square().sum(-1, keepdim=True).sqrt()


def _scale_rows(x: Float[Tensor, "*b n d"], dead: Float[Tensor, "*b n 1"]) -> Float[Tensor, "*b n d"]:
    """Rows to unit length, dead ones to 0 with gradient 0."""
    alive = torch.where(dead, 1.0, x)
    return torch.where(dead, 0.0, alive / _length(alive))


def unit_rows(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """x / |x| for each row; a zero row stays zero and gets no gradient."""
    return _scale_rows(x, _length(x.detach()) == 0)


def center_normalize(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """(x - mean) / |x - mean| for each row; a row that is constant up to rounding, relative to itself, becomes 0."""
    centered = x - x.mean(dim=-1, keepdim=True)
    dead = _length(centered.detach()) <= 4 * torch.finfo(x.dtype).eps * _length(x.detach())
    return _scale_rows(centered, dead)


def gram(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Inner products of the rows of x with those of y."""
    return x @ y.mT


def squared_distances(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """|x_i - y_j|^2 from a Gram matrix. What is within its rounding is 0, without gradient: equal rows are at distance 0.

    Rows are centred first: distances do not change, and the cancellation of large offsets disappears.
    """
    shift = y.mean(dim=-2, keepdim=True).detach()
    if x is y:  # sizes from the same product as the rest
        x = y = x - shift
        products = x @ x.mT
        sizes_x = sizes_y = products.diagonal(dim1=-2, dim2=-1)
    else:
        x, y = x - shift, y - shift
        products = x @ y.mT
        sizes_x, sizes_y = x.square().sum(-1), y.square().sum(-1)
    sizes = sizes_x.unsqueeze(-1) + sizes_y.unsqueeze(-2)
    squares = sizes - 2 * products
    rounding = squares <= 16 * torch.finfo(squares.dtype).eps * sizes  # a NaN is not, and passes
    return torch.where(rounding, 0.0, squares)


def row_kl(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], temperature: float = 1.0
) -> Float[Tensor, "*b n"]:
    """KL(softmax(teacher / T) || softmax(student / T)) of each row."""
    log_s = (student / temperature).log_softmax(-1)
    log_t = (teacher / temperature).log_softmax(-1)
    return (log_t.exp() * (log_t - log_s)).sum(-1)


def row_pearson(student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b n"]:
    """Correlation of each row of one matrix with the same row of the other."""
    return (center_normalize(student) * center_normalize(teacher)).sum(-1)


def knn(x: Float[Tensor, "n d"], k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances (n, k) of each row's k nearest other rows, nearest first."""
    distances = squared_distances(x, x).fill_diagonal_(float("inf"))
    values, indices = distances.topk(k, dim=-1, largest=False)
    return indices, values
