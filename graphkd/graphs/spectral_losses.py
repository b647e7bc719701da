r"""Spectral losses: how far the student's graph is from the teacher's in the space of the teacher's smoothest vectors.

Eigenvectors are defined up to sign, rotation inside equal eigenvalues, and order, so none of the forms compares them
entry by entry, except ``signfix`` (the literal reading of the method, kept for comparison). With :math:`L_S, L_T` the
Laplacians, :math:`Y = U s(\Lambda)` the k scaled lowest eigenvectors and :math:`F = Y Y^\top`:

==================  ====================================================================================
``residual``        :math:`\lVert (L_S - L_T) Y_T \rVert_F^2 / k`: no eigenvectors of the student (default)
``projector``       :math:`\lVert F_S - F_T \rVert_F^2 / 2k`; unscaled, the mean sin^2 of principal angles
``heat``            :math:`\lVert e^{-t L_S} - e^{-t L_T} \rVert_F^2`: no eigenvectors at all
``powers``          :math:`\lVert (I - L_S)^p - (I - L_T)^p \rVert_F^2`
``procrustes``      :math:`\min_R \lVert Y_S R - Y_T \rVert_F^2`, which is :math:`2k - 2 \lVert U_S^\top U_T \rVert_*`
``quadratic``       :math:`(\mathrm{tr}\, Y_T^\top (L_S - L_T) Y_T)^2`: squared, because it has no lower bound
``spectrum``        :math:`\lVert \lambda_S - \lambda_T \rVert^2` of the k lowest: the graphs may differ in size
``heat_trace``      :math:`(\mathrm{tr}\, e^{-t L_S} / n_S - \mathrm{tr}\, e^{-t L_T} / n_T)^2`: likewise
``signfix``         :math:`\lVert Y_S - Y_T \rVert_F^2 / nk` after each student vector took the teacher's sign
==================  ====================================================================================

Each takes (student, teacher, k, scaling) and gives one number for each graph, 0 for equal graphs. Other values of
``time``, ``power`` or ``gap``: ``functools.partial(heat, time=4.0)``.
"""

from collections.abc import Callable
from typing import Any, Final

import torch

from graphkd import ops
from graphkd.errors import ShapeError
from graphkd.graphs.spectral import NONE, Operator, Scaling, decomposed, eigenpairs, spectral_filter
from graphkd.ops import diagonal
from graphkd.registry import Registry
from graphkd.typing import Float, Tensor

SpectralForm = Callable[[Operator, Operator, int, Scaling], Tensor]
SPECTRAL_FORMS: Registry[SpectralForm] = Registry("spectral form")


def _square_sum(difference: Float[Tensor, "*b n m"]) -> Float[Tensor, "*b"]:
    return difference.square().sum((-2, -1))


def _embedding(operator: Operator, k: int, scaling: Scaling) -> Float[Tensor, "*b n k"]:
    vectors, values = operator.lowest(k)
    return vectors * scaling.root(values).unsqueeze(-2)


def _same_nodes(student: Operator, teacher: Operator) -> None:
    found = student.laplacian.shape[-1], teacher.laplacian.shape[-1]
    if found[0] != found[1]:
        raise ShapeError(
            f"student graph of {found[0]} nodes and teacher graph of {found[1]} differ and this form compares node by "
            "node: use an adapter to as many channels, or form 'spectrum' or 'heat_trace'"
        )


def _both_sides(difference: Float[Tensor, "*b n n"], operator: Operator) -> Float[Tensor, "*b n n"]:
    return operator.weigh(operator.weigh(difference).mT)


@SPECTRAL_FORMS.register
def residual(student: Operator, teacher: Operator, k: int, scaling: Scaling = NONE) -> Float[Tensor, "*b"]:
    r"""What the student's Laplacian does wrong to the teacher's basis.

    .. math:: \lVert (L_S - L_T) Y_T \rVert_F^2 / k

    Depends on the basis only through the space it spans; smooth, with no division by a gap. Our derivation.

    Args:
        student, teacher: operators over the same nodes.
        k: number of eigenvectors.
        scaling: of the eigenvectors; default none.
    Shapes: operators of (*b, n, n) -> (*b).
    Raises: OptionError if there are fewer than k eigenvectors, ShapeError for graphs of different size.
    Example: ``residual(*SpectralGraph()(student_edges, teacher_edges), k=8)``
    """
    _same_nodes(student, teacher)
    y = _embedding(teacher, k, scaling)
    return _square_sum(teacher.weigh((student.laplacian - teacher.laplacian) @ y)) / k


@SPECTRAL_FORMS.register
def projector(
    student: Operator, teacher: Operator, k: int, scaling: Scaling = NONE, gap: float = 1e-3
) -> Float[Tensor, "*b"]:
    r"""Distance of the two spaces, :math:`1 - \lVert U_S^\top U_T \rVert_F^2 / k` without scaling, in [0, 1].

    Shapes: operators of (*b, n, n) -> (*b). ``gap``: see :func:`~graphkd.graphs.spectral.spectral_filter`.
    """
    _same_nodes(student, teacher)
    target = spectral_filter(teacher, k, scaling, gap)
    return _square_sum(_both_sides(spectral_filter(student, k, scaling, gap) - target, teacher)) / (2 * k)


@SPECTRAL_FORMS.register
def procrustes(
    student: Operator, teacher: Operator, k: int, scaling: Scaling = NONE, gap: float = 1e-3
) -> Float[Tensor, "*b"]:
    r"""Squared distance of the embeddings after the best rotation.

    .. math:: \lVert Y_S \rVert_F^2 + \lVert Y_T \rVert_F^2 - 2 \lVert Y_S^\top Y_T \rVert_*, \quad
        \lVert Y_S^\top Y_T \rVert_* = \mathrm{tr} \sqrt{Y_T^\top F_S Y_T}

    Shapes: operators of (*b, n, n) -> (*b). ``gap``: see :func:`~graphkd.graphs.spectral.spectral_filter`.
    """
    _same_nodes(student, teacher)
    y = teacher.weigh(_embedding(teacher, k, scaling))
    theirs = _both_sides(spectral_filter(student, k, scaling, gap), teacher)
    overlap = y.mT @ theirs @ y
    (squares,) = decomposed(torch.linalg.eigvalsh, (overlap + overlap.mT) / 2)
    nuclear = ops.safe_sqrt(squares).sum(-1)
    return diagonal(theirs).sum(-1) + _square_sum(y) - 2 * nuclear


@SPECTRAL_FORMS.register
def heat(
    student: Operator, teacher: Operator, k: int = 0, scaling: Scaling = NONE, time: float = 1.0
) -> Float[Tensor, "*b"]:
    r"""Squared distance of the heat kernels :math:`e^{-tL}`; ``time``: t > 0; default 1 (1 to 10 are sensible).

    Takes no eigenvectors: ``k`` and ``scaling`` have no effect. Shapes: operators of (*b, n, n) -> (*b).
    """
    _same_nodes(student, teacher)
    kernels = [torch.matrix_exp(-time * each.laplacian) for each in (student, teacher)]
    return _square_sum(_both_sides(kernels[0] - kernels[1], teacher))


@SPECTRAL_FORMS.register
def powers(
    student: Operator, teacher: Operator, k: int = 0, scaling: Scaling = NONE, power: int = 2
) -> Float[Tensor, "*b"]:
    r"""Squared distance of :math:`(I - L)^p`, p steps of diffusion; ``power``: p >= 1; default 2.

    Takes no eigenvectors: ``k`` and ``scaling`` have no effect. Shapes: operators of (*b, n, n) -> (*b).
    """
    _same_nodes(student, teacher)
    identity = torch.eye(student.laplacian.shape[-1]).to(student.laplacian)
    steps = [torch.linalg.matrix_power(identity - each.laplacian, power) for each in (student, teacher)]
    return _square_sum(_both_sides(steps[0] - steps[1], teacher))


@SPECTRAL_FORMS.register
def quadratic(student: Operator, teacher: Operator, k: int, scaling: Scaling = NONE) -> Float[Tensor, "*b"]:
    r"""Squared difference of the smoothness of the teacher's basis on both graphs.

    .. math:: \left( \mathrm{tr}\, Y_T^\top L_S Y_T - \mathrm{tr}\, Y_T^\top L_T Y_T \right)^2

    Not squared it has no lower bound and rewards over-smooth graphs. Shapes: operators of (*b, n, n) -> (*b).
    """
    _same_nodes(student, teacher)
    y = teacher.weigh(_embedding(teacher, k, scaling))
    return (y * ((student.laplacian - teacher.laplacian) @ y)).sum((-2, -1)).square()


@SPECTRAL_FORMS.register
def spectrum(student: Operator, teacher: Operator, k: int, scaling: Scaling = NONE) -> Float[Tensor, "*b"]:
    r"""Squared distance of the k lowest eigenvalues; blind to which node is which, and weak for that reason.

    ``scaling`` has no effect. Shapes: operators of (*b, n, n) and (*b, m, m) -> (*b).
    """
    student.check(k)
    teacher.check(k)
    ours, theirs = (decomposed(torch.linalg.eigvalsh, each.symmetric)[0][..., :k] for each in (student, teacher))
    return (ours - theirs).square().sum(-1)


@SPECTRAL_FORMS.register
def heat_trace(
    student: Operator, teacher: Operator, k: int = 0, scaling: Scaling = NONE, time: float = 1.0
) -> Float[Tensor, "*b"]:
    r"""Squared difference of the mean heat that stays, :math:`\mathrm{tr}\, e^{-tL} / n`; ``time``: t > 0; default 1.

    ``k`` and ``scaling`` have no effect. Shapes: operators of (*b, n, n) and (*b, m, m) -> (*b).
    """
    kernels = [torch.matrix_exp(-time * each.laplacian) for each in (student, teacher)]
    traces = [diagonal(each).mean(-1) for each in kernels]
    return (traces[0] - traces[1]).square()


@SPECTRAL_FORMS.register
def signfix(
    student: Operator, teacher: Operator, k: int, scaling: Scaling = NONE, gap: float = 1e-3
) -> Float[Tensor, "*b"]:
    r"""The literal reading, :math:`\lVert Y_S - Y_T \rVert_F^2 / nk`, each student vector with the teacher's sign.

    Ill-defined for equal eigenvalues and for swaps in their order: for comparison only.
    Shapes: operators of (*b, n, n) -> (*b). ``gap``: least distance of two eigenvalues in the gradient; default 1e-3.
    """
    _same_nodes(student, teacher)
    values, vectors = eigenpairs(student, k, gap)
    y, basis = vectors * scaling.root(values).unsqueeze(-2), _embedding(teacher, k, scaling)
    sign = torch.where((y * basis).sum(-2, keepdim=True).detach() < 0, -1.0, 1.0)
    return _square_sum(teacher.weigh(sign * y - basis)) / (basis.shape[-2] * k)


_ANY_SIZE: Final = (spectrum, heat_trace)


def compares_nodes(form: SpectralForm) -> bool:
    """Whether a form needs the student's nodes to correspond to the teacher's."""
    function: Any = getattr(form, "func", form)
    return function not in _ANY_SIZE
