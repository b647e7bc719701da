r"""Laplacians and their smoothest eigenvectors, for graphs given as affinity matrices.

The trivial eigenvector (constant, or :math:`D^{1/2} 1`) is moved out of the way by deflation: a multiple of
:math:`u_1 u_1^\top` puts it last. Picking by index would fail for a graph of several components, where eigenvalue 0
has one copy for each. Filters of the k lowest eigenvectors have gradients that survive equal eigenvalues.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from graphkd import ops
from graphkd.errors import OptionError, ShapeError
from graphkd.ops import diagonal
from graphkd.registry import Registry
from graphkd.typing import Bool, Float, Tensor

_LEAST_DEGREE = 1e-6  # degrees are clamped, not shifted: connected nodes keep Lap u_1 = 0 exactly


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


NonNegative = Callable[[Tensor], Tensor]
NON_NEGATIVE: Registry[NonNegative] = Registry("rule of non-negativity")


@NON_NEGATIVE.register("relu")
def relu(edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """Drop negative affinities: the best-conditioned spectrum for Pearson correlations."""
    return edges.clamp_min(0)


NON_NEGATIVE.register("abs")(torch.abs)


@NON_NEGATIVE.register("shift")
def shift(edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """(1 + e) / 2: from [-1, 1] to [0, 1]; squashes most eigenvalues together."""
    return (1 + edges) / 2


@NON_NEGATIVE.register("exp")
def exponential(edges: Float[Tensor, "*b n n"], tau: float = 0.5) -> Float[Tensor, "*b n n"]:
    """exp(e / tau); ``tau``: temperature, > 0; default 0.5."""
    return (edges / tau).exp()


@dataclass(frozen=True)
class Operator:
    """A graph's Laplacian, and the symmetric matrix whose lowest eigenvectors embed the graph.

    Args:
        laplacian: what forms without eigenvectors compare.
        symmetric: symmetric matrix of the same eigenvalues, the trivial one (if dropped) moved to the end.
        rank: eigenvectors that may be asked for.
        back: factor from the symmetric matrix's eigenvectors to the Laplacian's where they differ (random walk).
        rows: weight of each node in a spectral form; default 1.

    Shapes: laplacian, symmetric (*b, n, n); back, rows (*b, n, 1).
    """

    laplacian: Float[Tensor, "*b n n"]
    symmetric: Float[Tensor, "*b n n"]
    rank: int
    back: Float[Tensor, "*b n 1"] | None = None
    rows: Float[Tensor, "*b n 1"] | None = None

    def lowest(self, k: int) -> tuple[Float[Tensor, "*b n k"], Float[Tensor, "*b k"]]:
        """The k smoothest eigenvectors as orthonormal columns, and their eigenvalues; without gradient.

        Raises: OptionError if the graph has fewer than k of them.
        """
        self.check(k)
        values, vectors = decomposed(torch.linalg.eigh, self.symmetric.detach())
        vectors = vectors[..., :k]
        if self.back is not None:
            vectors = torch.linalg.qr(self.back.detach() * vectors).Q
        return vectors, values[..., :k]

    def check(self, k: int) -> None:
        """Raises: OptionError if the graph has fewer than k eigenvectors to offer."""
        if not 0 < k <= self.rank:
            n = self.symmetric.shape[-1]
            kind = "non-trivial eigenvectors" if self.rank < n else "eigenvectors"
            raise OptionError(f"a graph of {n} nodes has {self.rank} {kind}, {k} were asked for: lower k")

    def weigh(self, difference: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b n m"]:
        """Rows of a difference times the weights of the nodes."""
        return difference if self.rows is None else self.rows * difference


LaplacianRule = Callable[[Tensor, bool], Operator]
LAPLACIANS: Registry[LaplacianRule] = Registry("Laplacian")


def _operator(laplacian: Tensor, symmetric: Tensor, trivial: Tensor | None, top: Tensor | float) -> Operator:
    n = symmetric.shape[-1]
    if trivial is None:
        return Operator(laplacian, symmetric, n)
    return Operator(laplacian, symmetric + top * trivial @ trivial.mT, n - 1)


def _root_degrees(weights: Tensor) -> Tensor:
    return ops.unit_rows(ops.safe_sqrt(weights.sum(-2, keepdim=True))).mT


def _inverse_roots(weights: Tensor) -> Tensor:
    return weights.sum(-1, keepdim=True).clamp_min(_LEAST_DEGREE).rsqrt()


def _identity(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)


@LAPLACIANS.register("sym")
def symmetric_operator(weights: Float[Tensor, "*b n n"], drop_trivial: bool = True) -> Operator:
    r""":math:`I - D^{-1/2} W D^{-1/2}`; eigenvalues in [0, 2], trivial eigenvector :math:`D^{1/2} 1`."""
    scale = _inverse_roots(weights)
    laplacian = _identity(weights) - scale * weights * scale.mT
    return _operator(laplacian, laplacian, _root_degrees(weights) if drop_trivial else None, 3.0)


@LAPLACIANS.register("unnormalised")
def unnormalised_operator(weights: Float[Tensor, "*b n n"], drop_trivial: bool = True) -> Operator:
    r""":math:`D - W`; eigenvalues in [0, 2 max d], trivial eigenvector 1."""
    degrees = weights.sum(-1)
    laplacian = torch.diag_embed(degrees) - weights
    constant = ops.unit_rows(torch.ones_like(weights[..., :1, :])).mT
    top = 2 * degrees.detach().amax(-1)[..., None, None] + 1
    return _operator(laplacian, laplacian, constant if drop_trivial else None, top)


@LAPLACIANS.register("random_walk")
def random_walk_operator(weights: Float[Tensor, "*b n n"], drop_trivial: bool = True) -> Operator:
    r""":math:`I - D^{-1} W`; the symmetric Laplacian's eigenvalues, its eigenvectors times :math:`D^{-1/2}`."""
    like, scale = symmetric_operator(weights, drop_trivial), _inverse_roots(weights)
    return replace(like, laplacian=_identity(weights) - scale.square() * weights, back=scale)


def knn_mask(weights: Float[Tensor, "*b n n"], k: int) -> Bool[Tensor, "*b n n"]:
    """Edges among the k strongest of either end, and self-loops.

    Raises: OptionError if there are fewer than k other nodes.
    """
    n = weights.shape[-1]
    if not 0 < k < n:
        raise OptionError(f"a graph of {n} nodes has {n - 1} neighbours for each, {k} were asked for: lower neighbours")
    loops = torch.eye(n, dtype=torch.bool, device=weights.device)
    nearest = weights.masked_fill(loops, -torch.inf).topk(k, dim=-1).indices
    kept = torch.zeros_like(weights, dtype=torch.bool).scatter(-1, nearest, True)
    return kept | kept.mT | loops


@dataclass(frozen=True)
class SpectralGraph:
    """How two affinity matrices become two operators that can be compared.

    Args:
        nonnegative: ``"relu"`` (default), ``"abs"``, ``"shift"``, ``"exp"``, or a function.
        laplacian: ``"sym"`` (default), ``"unnormalised"``, ``"random_walk"``, or a function.
        self_loops: keep the diagonal of the affinities; default off.
        neighbours: keep the edges among each node's strongest in the teacher's graph, for both; default all edges.
        drop_trivial: leave the trivial eigenvector out of the embedding; default on.
        dtype: precision of Laplacian and eigenvectors, such as ``torch.float64``; default that of the affinities.

    Shapes: student, teacher (*b, n, n), attention (*b, n) -> two operators.
    Raises: UnknownNameError; ShapeError where a mask is shared by graphs of different size.
    Example: ``SpectralGraph(neighbours=8)(student_edges, teacher_edges)``
    """

    nonnegative: str | NonNegative = "relu"
    laplacian: str | LaplacianRule = "sym"
    self_loops: bool = False
    neighbours: int | None = None
    drop_trivial: bool = True
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        NON_NEGATIVE.resolve(self.nonnegative)
        LAPLACIANS.resolve(self.laplacian)

    def weights(self, edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
        """Non-negative and symmetric affinities."""
        kept = NON_NEGATIVE.resolve(self.nonnegative)(edges if self.dtype is None else edges.to(self.dtype))
        kept = (kept + kept.mT) / 2
        return kept if self.self_loops else kept - torch.diag_embed(diagonal(kept))

    def operator(self, weights: Float[Tensor, "*b n n"]) -> Operator:
        """The Laplacian of non-negative symmetric weights."""
        return LAPLACIANS.resolve(self.laplacian)(weights, self.drop_trivial)

    def __call__(
        self,
        student: Float[Tensor, "*b n n"],
        teacher: Float[Tensor, "*b m m"],
        attention: Float[Tensor, "*b n"] | None = None,
    ) -> tuple[Operator, Operator]:
        r"""Both operators; the teacher's without gradient. ``attention`` A turns W_ij into sqrt(A_i A_j) W_ij."""
        student, teacher = self.weights(student), self.weights(teacher.detach())
        if self.neighbours is not None:
            if student.shape[-1] != teacher.shape[-1]:
                raise ShapeError(
                    f"the teacher's graph of {teacher.shape[-1]} nodes gives no neighbours to the student's "
                    f"{student.shape[-1]}: neighbours=None, or an adapter to as many channels"
                )
            mask = knn_mask(teacher, self.neighbours)
            student, teacher = (torch.where(mask, weights, 0.0) for weights in (student, teacher))
        if attention is not None:
            root = attention.to(teacher.dtype).sqrt()
            factor = root.unsqueeze(-1) * root.unsqueeze(-2)
            student, teacher = student * factor, teacher * factor
        return self.operator(student), self.operator(teacher)


def clean_affinity(edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """Non-negative, symmetric, without self-loops: what a Laplacian is made of."""
    return SpectralGraph().weights(edges)


def laplacian(edges: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    r"""Symmetric normalised Laplacian.

    .. math:: L = I - D^{-1/2} W D^{-1/2}, \quad W = \mathrm{clean}(E), \quad D = \mathrm{diag}(W 1)

    Args:
        edges: affinities; negative ones and self-loops are dropped.
    Shapes: (*b, n, n) -> (*b, n, n), eigenvalues in [0, 2].
    Example: ``laplacian(torch.ones(2, 2))`` is ``[[1, -1], [-1, 1]]``.
    """
    return SpectralGraph().operator(clean_affinity(edges)).laplacian


def spectral_embedding(edges: Float[Tensor, "*b n n"], k: int) -> Float[Tensor, "*b n k"]:
    r"""The k eigenvectors of the Laplacian with the smallest eigenvalues, after the trivial one; without gradient.

    Args:
        edges: affinities; negative ones and self-loops are dropped.
        k: number of eigenvectors, 1 to n - 1.
    Shapes: (*b, n, n) -> (*b, n, k), orthonormal columns; their signs are arbitrary.
    Raises: OptionError if the graph has fewer than k non-trivial eigenvectors.
    """
    return SpectralGraph().operator(clean_affinity(edges)).lowest(k)[0]


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
