r"""Embeddings by the k lowest eigenvectors, with gradients that survive equal eigenvalues."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch

from graphkd.errors import OptionError
from graphkd.graphs.spectral import Operator, decomposed
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

_LEAST_VALUE = 1e-3  # a component of its own has eigenvalue 0: its commute time is capped
_TIE = 1e-4  # closer eigenvalues take the derivative at their mean, whose error is quadratic in the gap


@dataclass(frozen=True)
class Scaling:
    r"""Factor of each eigenvector in the embedding, :math:`Y = U s(\Lambda)`.

    Args:
        root: the factor s of an eigenvalue.
        slope: derivative of :math:`s^2`.
    """

    root: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


NONE: Final = Scaling(torch.ones_like, torch.zeros_like)
COMMUTE: Final = Scaling(
    lambda value: value.clamp_min(_LEAST_VALUE).rsqrt(),
    lambda value: torch.where(value > _LEAST_VALUE, -value.clamp_min(_LEAST_VALUE).pow(-2), 0.0),
)


def diffusion(steps: int = 1) -> Scaling:
    r"""Diffusion map, :math:`s(\lambda) = (1 - \lambda)^t`; ``steps``: t, a whole number >= 1; default 1."""
    if steps < 1:
        raise OptionError(f"a diffusion takes 1 step or more, found {steps}")
    return Scaling(lambda value: (1 - value) ** steps, lambda value: -2 * steps * (1 - value) ** (2 * steps - 1))


SCALINGS: Registry[Scaling] = Registry("eigenvalue scaling")
SCALINGS.register("none")(NONE)
SCALINGS.register("diffusion")(diffusion())
SCALINGS.register("commute")(COMMUTE)


class _Filter(torch.autograd.Function):
    r"""F = sum_{i <= k} f(l_i) u_i u_i^T of the k lowest eigenvectors, f = s^2, with the gradient of the matrix itself.

    dF = U (K o (U^T dA U)) U^T, where K_ij is the divided difference of f (f = 0 beyond the cut). Inside the kept block
    it is finite for equal eigenvalues, so only the gap at the cut enters; plain autograd through eigh divides by all.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, k: int, scaling: Scaling, gap: float) -> Tensor:
        values, vectors = decomposed(torch.linalg.eigh, matrix)
        ctx.save_for_backward(values, vectors)
        ctx.k, ctx.scaling, ctx.gap = k, scaling, gap
        y: Tensor = vectors[..., :k] * scaling.root(values[..., :k]).unsqueeze(-2)
        return y @ y.mT

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        values, vectors = ctx.saved_tensors
        inside, outside = values[..., : ctx.k], values[..., ctx.k :]
        power = ctx.scaling.root(inside).square()
        cross = -power.unsqueeze(-1) / (outside.unsqueeze(-2) - inside.unsqueeze(-1)).clamp_min(ctx.gap)
        gaps = inside.unsqueeze(-1) - inside.unsqueeze(-2)
        tie = gaps.abs() < _TIE
        mean = (inside.unsqueeze(-1) + inside.unsqueeze(-2)) / 2
        quotient = (power.unsqueeze(-1) - power.unsqueeze(-2)) / torch.where(tie, 1.0, gaps)
        block = torch.where(tie, ctx.scaling.slope(mean), quotient)
        rest = grad.new_zeros(*cross.shape[:-2], outside.shape[-1], outside.shape[-1])
        factor = torch.cat([torch.cat([block, cross], -1), torch.cat([cross.mT, rest], -1)], -2)
        rotated = vectors.mT @ ((grad + grad.mT) / 2) @ vectors
        return vectors @ (factor * rotated) @ vectors.mT, None, None, None


class _Eigenpairs(torch.autograd.Function):
    """The k lowest eigenvalues and eigenvectors; gaps smaller than ``gap`` are damped, an exact tie passes nothing."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, k: int, gap: float) -> tuple[Tensor, Tensor]:
        values, vectors = decomposed(torch.linalg.eigh, matrix)
        ctx.save_for_backward(values, vectors)
        ctx.k, ctx.gap = k, gap
        return values[..., :k].clone(), vectors[..., :k].clone()

    @staticmethod
    def backward(ctx: Any, grad_values: Tensor, grad_vectors: Tensor) -> tuple[Tensor, None, None]:
        values, vectors = ctx.saved_tensors
        gaps = values[..., : ctx.k].unsqueeze(-2) - values.unsqueeze(-1)
        inverse = gaps / gaps.square().clamp_min(ctx.gap**2)
        inner = inverse * (vectors.mT @ grad_vectors)
        inner.diagonal(dim1=-2, dim2=-1).add_(grad_values)
        grad = vectors @ inner @ vectors[..., : ctx.k].mT
        return (grad + grad.mT) / 2, None, None


def spectral_filter(operator: Operator, k: int, scaling: Scaling = NONE, gap: float = 1e-3) -> Float[Tensor, "*b n n"]:
    r""":math:`Y Y^\top` of the k-dimensional embedding Y; without scaling, the projector on its space.

    .. math:: dP = \sum_{i \le k < j} \frac{u_j u_j^\top dL\, u_i u_i^\top + \text{transpose}}{\lambda_i - \lambda_j}

    Args:
        operator: of a symmetric Laplacian.
        k: number of eigenvectors.
        scaling: of the eigenvectors; default none.
        gap: least distance of kept and cut eigenvalues in the gradient; default 1e-3.
    Shapes: (*b, n, n) -> (*b, n, n).
    Raises: OptionError if there are fewer than k eigenvectors, and for the random-walk Laplacian.
    """
    operator.check(k)
    _check_symmetric(operator)
    result: Tensor = _Filter.apply(operator.symmetric, k, scaling, gap)
    return result


def eigenpairs(operator: Operator, k: int, gap: float = 1e-3) -> tuple[Float[Tensor, "*b k"], Float[Tensor, "*b n k"]]:
    """The k lowest eigenvalues and eigenvectors, differentiable; arguments and errors as of :func:`spectral_filter`."""
    operator.check(k)
    _check_symmetric(operator)
    values, vectors = _Eigenpairs.apply(operator.symmetric, k, gap)
    return values, vectors


def _check_symmetric(operator: Operator) -> None:
    if operator.back is not None:
        raise OptionError(
            "eigenvectors of the random-walk Laplacian are not orthonormal and this form compares them: "
            "use form 'residual', 'heat', 'powers', 'quadratic' or 'spectrum', or laplacian='sym'"
        )
