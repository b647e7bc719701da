r"""Spectra of graphs given as affinity matrices, and losses between them.

Laplacian: :math:`L = I - D^{-1/2} W D^{-1/2}` of the non-negative part W of the affinities, with degrees D. Its trivial
eigenvector :math:`u_1 = D^{1/2} 1` is moved out of the way by deflation: a multiple of :math:`u_1 u_1^\top` puts it
last. Picking by index would fail for a graph of several components, where eigenvalue 0 has one copy for each.

Losses compare the student's graph with the teacher's in the space of the k smoothest eigenvectors U. Those are defined
up to sign, rotation inside equal eigenvalues, and order, so no form compares them entry by entry:

=============  ==================================================================================
``residual``   :math:`\lVert (L_S - L_T) U_T \rVert_F^2 / k`: no eigenvectors of the student (default)
``projector``  :math:`\lVert P_S - P_T \rVert_F^2 / 2k` with :math:`P = U U^\top`: the mean sin^2 of principal angles
``heat``       :math:`\lVert e^{-t L_S} - e^{-t L_T} \rVert_F^2`: no eigenvectors at all
``spectrum``   :math:`\lVert \lambda_S - \lambda_T \rVert^2` of the k lowest: the graphs may differ in size
=============  ==================================================================================

Each takes (student, teacher, k) and gives one number for each graph, 0 for equal graphs. Another ``time`` of the heat
kernel: ``functools.partial(heat, time=4.0)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.autograd.function import once_differentiable

from graphkd import ops
from graphkd.errors import OptionError, ShapeError
from graphkd.ops import diagonal
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

_LEAST_DEGREE: Final = 1e-6  # degrees are clamped, not shifted: connected nodes keep Lap u_1 = 0 exactly
_LEAST_GAP: Final = 1e-3  # of kept and cut eigenvalues, in the projector's gradient


def decomposed(decompose: Callable[[Tensor], Any], matrix: Float[Tensor, "*b n m"]) -> tuple[Tensor, ...]:
    """Eigenvalues or singular values, and vectors where there are any; all NaN for a matrix that is not finite.

    LAPACK raises there, or does not end: a NaN that comes in goes out.

    Args:
        decompose: such as ``torch.linalg.eigh``.
        matrix: one, or a batch, of which each is judged by itself.
    Example: ``values, vectors = decomposed(torch.linalg.eigh, laplacian)``
    """
    broken = ~matrix.isfinite().all((-2, -1))
    found = decompose(torch.where(broken[..., None, None], 0.0, matrix))
    parts = (found,) if isinstance(found, Tensor) else found
    return tuple(torch.where(broken.view(*broken.shape, *[1] * (x.ndim - broken.ndim)), torch.nan, x) for x in parts)


@dataclass(frozen=True)
class Operator:
    """A graph's Laplacian, and the matrix whose lowest eigenvectors embed the graph.

    Args:
        laplacian: what forms without eigenvectors compare.
        deflated: the same eigenvectors and eigenvalues, the trivial one moved to the end.

    Shapes: both (*b, n, n).
    """

    laplacian: Float[Tensor, "*b n n"]
    deflated: Float[Tensor, "*b n n"]

    def lowest(self, k: int) -> tuple[Float[Tensor, "*b n k"], Float[Tensor, "*b k"]]:
        """The k smoothest eigenvectors as orthonormal columns, and their eigenvalues; without gradient.

        Raises: OptionError if the graph has fewer than k of them.
        """
        self.check(k)
        values, vectors = decomposed(torch.linalg.eigh, self.deflated.detach())
        return vectors[..., :k], values[..., :k]

    def check(self, k: int) -> None:
        """Raises: OptionError if the graph has fewer than k non-trivial eigenvectors."""
        n = self.deflated.shape[-1]
        if not 0 < k < n:
            raise OptionError(f"a graph of {n} nodes has {n - 1} non-trivial eigenvectors, {k} were asked for: lower k")


def clean_affinity(edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """Non-negative, symmetric, without self-loops: what a Laplacian is made of."""
    kept = edges.clamp_min(0)
    kept = (kept + kept.mT) / 2
    return kept - torch.diag_embed(diagonal(kept))


def operator_of(edges: Float[Tensor, "*b n n"]) -> Operator:
    """The Laplacian of affinities; negative ones and self-loops are dropped. Shapes: (*b, n, n)."""
    weights = clean_affinity(edges)
    scale = weights.sum(-1, keepdim=True).clamp_min(_LEAST_DEGREE).rsqrt()
    identity = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    matrix = identity - scale * weights * scale.mT
    trivial = ops.unit_rows(ops.safe_sqrt(weights.sum(-2, keepdim=True)))
    return Operator(matrix, matrix + 3.0 * trivial.mT @ trivial)  # eigenvalues end at 2


def laplacian(edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    r"""Symmetric normalised Laplacian.

    .. math:: L = I - D^{-1/2} W D^{-1/2}, \quad W = \mathrm{clean}(E), \quad D = \mathrm{diag}(W 1)

    Args:
        edges: affinities; negative ones and self-loops are dropped.
    Shapes: (*b, n, n) -> (*b, n, n), eigenvalues in [0, 2].
    Example: ``laplacian(torch.ones(2, 2))`` is ``[[1, -1], [-1, 1]]``.
    """
    return operator_of(edges).laplacian


def spectral_embedding(edges: Float[Tensor, "*b n n"], k: int) -> Float[Tensor, "*b n k"]:
    r"""The k eigenvectors of the Laplacian with the smallest eigenvalues, after the trivial one; without gradient.

    Args:
        edges: affinities; negative ones and self-loops are dropped.
        k: number of eigenvectors, 1 to n - 1.
    Shapes: (*b, n, n) -> (*b, n, k), orthonormal columns; their signs are arbitrary.
    Raises: OptionError if the graph has fewer than k non-trivial eigenvectors.
    """
    return operator_of(edges).lowest(k)[0]


class _Projector(torch.autograd.Function):
    r"""P = sum_{i <= k} u_i u_i^T of the k lowest eigenvectors, with the gradient of the matrix itself.

    dP = sum_{i <= k < j} (u_j u_j^T dA u_i u_i^T + transpose) / (l_i - l_j): only the gap at the cut enters, so equal
    eigenvalues inside the kept block do no harm; plain autograd through eigh divides by all gaps.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, k: int) -> Tensor:
        values, vectors = decomposed(torch.linalg.eigh, matrix)
        ctx.save_for_backward(values, vectors)
        ctx.k = k
        kept: Tensor = vectors[..., :k]
        return kept @ kept.mT

    @staticmethod
    @once_differentiable  # a second derivative would leave out the eigenvectors' own
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        values, vectors = ctx.saved_tensors
        kept, cut = vectors[..., : ctx.k], vectors[..., ctx.k :]
        gaps = values[..., None, ctx.k :] - values[..., : ctx.k, None]
        inner = kept.mT @ (grad + grad.mT) @ cut / gaps.clamp_min(_LEAST_GAP)
        half = -kept @ inner @ cut.mT / 2
        return half + half.mT, None


def spectral_projector(operator: Operator, k: int) -> Float[Tensor, "*b n n"]:
    r""":math:`U U^\top` of the k smoothest eigenvectors, differentiable also where kept eigenvalues are equal.

    In the gradient, kept and cut eigenvalues closer than 1e-3 count as 1e-3 apart.

    Shapes: (*b, n, n) -> (*b, n, n).
    Raises: OptionError if there are fewer than k eigenvectors.
    """
    operator.check(k)
    result: Tensor = _Projector.apply(operator.deflated, k)
    return result


SpectralForm = Callable[[Operator, Operator, int], Tensor]
SPECTRAL_FORMS: Registry[SpectralForm] = Registry("spectral form")


@SPECTRAL_FORMS.register
def residual(student: Operator, teacher: Operator, k: int) -> Float[Tensor, "*b"]:
    r"""What the student's Laplacian does wrong to the teacher's basis.

    .. math:: \lVert (L_S - L_T) U_T \rVert_F^2 / k

    Depends on the basis only through the space it spans; smooth, with no division by a gap. Our derivation.

    Args:
        student, teacher: operators over the same nodes.
        k: number of eigenvectors.
    Shapes: operators of (*b, n, n) -> (*b).
    Raises: OptionError if there are fewer than k eigenvectors, ShapeError for graphs of different size.
    Example: ``residual(operator_of(student_edges), operator_of(teacher_edges), k=8)``
    """
    _same_nodes(student, teacher)
    return _square_sum((student.laplacian - teacher.laplacian) @ teacher.lowest(k)[0]) / k


@SPECTRAL_FORMS.register
def projector(student: Operator, teacher: Operator, k: int) -> Float[Tensor, "*b"]:
    r"""Distance of the two spaces, :math:`1 - \lVert U_S^\top U_T \rVert_F^2 / k`, in [0, 1].

    Shapes: operators of (*b, n, n) -> (*b).
    """
    _same_nodes(student, teacher)
    return _square_sum(spectral_projector(student, k) - spectral_projector(teacher, k)) / (2 * k)


@SPECTRAL_FORMS.register
def heat(student: Operator, teacher: Operator, k: int = 0, time: float = 1.0) -> Float[Tensor, "*b"]:
    r"""Squared distance of the heat kernels :math:`e^{-tL}`; ``time``: t > 0; default 1 (1 to 10 are sensible).

    Takes no eigenvectors: ``k`` has no effect. Shapes: operators of (*b, n, n) -> (*b).
    """
    _same_nodes(student, teacher)
    return _square_sum(torch.matrix_exp(-time * student.laplacian) - torch.matrix_exp(-time * teacher.laplacian))


@SPECTRAL_FORMS.register
def spectrum(student: Operator, teacher: Operator, k: int) -> Float[Tensor, "*b"]:
    r"""Squared distance of the k lowest eigenvalues; blind to which node is which, and weak for that reason.

    Shapes: operators of (*b, n, n) and (*b, m, m) -> (*b).
    """
    student.check(k)
    teacher.check(k)
    ours, theirs = (decomposed(torch.linalg.eigvalsh, each.deflated)[0][..., :k] for each in (student, teacher))
    return (ours - theirs).square().sum(-1)


def _square_sum(difference: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b"]:
    return difference.square().sum((-2, -1))


def _same_nodes(student: Operator, teacher: Operator) -> None:
    found = student.laplacian.shape[-1], teacher.laplacian.shape[-1]
    if found[0] != found[1]:
        raise ShapeError(
            f"student graph of {found[0]} nodes and teacher graph of {found[1]} differ and this form compares node by "
            "node: use an adapter to as many channels, or form 'spectrum'"
        )
