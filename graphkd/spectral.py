r"""Laplacians and their smoothest eigenvectors, for graphs given as affinity matrices."""

import torch

from graphkd import ops
from graphkd.errors import OptionError
from graphkd.typing import Float, Tensor

_LEAST_DEGREE = 1e-6  # degrees are clamped, not shifted: connected nodes keep Lap u_1 = 0 exactly


def clean_affinity(edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """Non-negative, symmetric, without self-loops: what a Laplacian is made of."""
    kept = edges.clamp_min(0)
    kept = (kept + kept.mT) / 2
    return kept - torch.diag_embed(kept.diagonal(dim1=-2, dim2=-1))


def laplacian(edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    r"""Symmetric normalised Laplacian.

    .. math:: L = I - D^{-1/2} W D^{-1/2}, \quad W = \mathrm{clean}(E), \quad D = \mathrm{diag}(W 1)

    Args:
        edges: affinities; negative ones and self-loops are dropped.
    Shapes: (*b, n, n) -> (*b, n, n), eigenvalues in [0, 2].
    Example: ``laplacian(torch.ones(2, 2))`` is ``[[1, -1], [-1, 1]]``.
    """
    weights = clean_affinity(edges)
    scale = weights.sum(-1).clamp_min(_LEAST_DEGREE).rsqrt()
    identity = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    return identity - scale.unsqueeze(-1) * weights * scale.unsqueeze(-2)


def spectral_embedding(edges: Float[Tensor, "*b n n"], k: int) -> Float[Tensor, "*b n k"]:
    r"""The k eigenvectors of the Laplacian with the smallest eigenvalues, after the trivial one.

    The trivial one, :math:`u_1 = D^{1/2} 1 / |D^{1/2} 1|`, is moved out of the way by deflation (the spectrum lies in
    [0, 2], so :math:`+ 3 u_1 u_1^T` puts it last); picking by index would fail for a graph of several components.

    Args:
        edges: affinities; negative ones and self-loops are dropped.
        k: number of eigenvectors, 1 to n - 1.
    Shapes: (*b, n, n) -> (*b, n, k), orthonormal columns; their signs are arbitrary.
    Raises: OptionError if the graph has fewer than k non-trivial eigenvectors.
    """
    n = edges.shape[-1]
    if not 0 < k < n:
        raise OptionError(f"a graph of {n} nodes has {n - 1} non-trivial eigenvectors, {k} were asked for: lower k")
    root = ops.safe_sqrt(clean_affinity(edges).sum(-1, keepdim=True))
    trivial = ops.unit_rows(root.mT).mT
    deflated = laplacian(edges) + 3 * trivial @ trivial.mT
    vectors: Tensor = torch.linalg.eigh(deflated).eigenvectors
    return vectors[..., :k]
