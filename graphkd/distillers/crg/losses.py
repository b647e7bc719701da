r"""CRG's terms as functions of one pair of feature maps.

CRG/SEKD-style: follows the abstract and the loss decomposition L_origin + alpha L_V + beta L_E + gamma L_S; not a
reproduction.
"""

from dataclasses import replace
from functools import partial

from graphkd.checks import same_maps, tensor_loss
from graphkd.distillers.base import mean_over_batch
from graphkd.graphs.align import align
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.attention import ATTENTION, Attention, Masks
from graphkd.graphs.channels import AFFINITIES, Affinity, to_smaller
from graphkd.graphs.spectral import SPECTRAL_FORMS, SpectralForm, operator_of, spectrum
from graphkd.typing import Float, Tensor


@tensor_loss
def crg_vertex(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b c h w"],
    *,
    attention: str | Attention = "teacher",
    tau: float | None = None,
) -> Float[Tensor, ""]:
    r"""Channel by channel, position by position, weighed by the teacher's attention.

    .. math:: L_V = \frac{1}{CN} \sum_{ip} A^c_i A^s_p (F^S_{ip} - F^T_{ip})^2, \quad \text{mean over images}

    Args:
        student, teacher: feature maps; the larger is pooled to the smaller; no gradient reaches the teacher.
        attention: ``"teacher"`` (FGD, default), ``"off"``, or a function.
        tau: softmax temperature of the attention, > 0; default 0.5.
    Shapes: (b, c, h, w), (b, c, h2, w2) -> scalar.
    Raises: ShapeError for other samples or channels, UnknownNameError, OptionError.
    Example: ``crg_vertex(student_maps, teacher_maps)``
    """
    student, teacher = _channels(student, teacher)
    return mean_over_batch(weighed_squares(student, teacher, tempered(attention, tau)(student, teacher)))


@tensor_loss
def crg_edge(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b c h w"],
    *,
    affinity: str | Affinity = "cosine",
    alignment: str | Alignment = "mse",
    attention: str | Attention = "teacher",
    tau: float | None = None,
) -> Float[Tensor, ""]:
    r"""Relations of channels, weighed by the teacher's attention.

    .. math:: L_E = \frac{1}{C^2} \sum_{ij} A^c_i A^c_j (E^S_{ij} - E^T_{ij})^2, \quad E_{ij} = \cos(v_i, v_j)

    Args:
        student, teacher: feature maps; the larger is pooled to the smaller; no gradient reaches the teacher.
        affinity: ``"cosine"`` (default), ``"pearson"``, ``"unit_gram"`` (ICKD), ``"rbf"`` (median width), or an
            Affinity.
        alignment: ``"mse"`` (default), ``"huber"``, ``"row_squares"`` (ICKD), or another of
            ``graphkd.graphs.alignments``; those that compare whole rows (``"kl"``) need attention ``"off"``.
        attention, tau: as of :func:`crg_vertex`.
    Shapes: (b, c, h, w), (b, c, h2, w2) -> scalar.
    Raises: ShapeError for other samples or channels, UnknownNameError, OptionError.
    Example: ``crg_edge(student_maps, teacher_maps, affinity="unit_gram", alignment="row_squares", attention="off")``
        is ICKD's loss.
    """
    student, teacher = _channels(student, teacher)
    masks = None if attention == "off" else tempered(attention, tau)(student, teacher)
    return weighed_edges(student, teacher, AFFINITIES.resolve(affinity), ALIGNMENTS.resolve(alignment), masks)


@tensor_loss
def crg_spectral(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b d h w"],
    *,
    k: int = 8,
    form: str | SpectralForm = "residual",
    affinity: str | Affinity = "pearson",
) -> Float[Tensor, ""]:
    r"""The student's channel graph in the space of the teacher's k smoothest eigenvectors.

    .. math:: L_S = \frac1k \lVert (\mathrm{Lap}_S - \mathrm{Lap}_T)\, U_T \rVert_F^2, \quad \text{mean over images}

    Args:
        student, teacher: feature maps; the larger is pooled to the smaller; no gradient reaches the teacher.
        k: number of eigenvectors; default 8.
        form: ``"residual"`` (default) or another of ``graphkd.graphs.spectral``.
        affinity: as of :func:`crg_edge`; default ``"pearson"``.
    Shapes: (b, c, h, w), (b, c, h2, w2) -> scalar; the numbers of channels may differ for the form ``"spectrum"``.
    Raises: ShapeError for other samples or channels; OptionError for fewer than k eigenvectors.
    Example: ``crg_spectral(student_maps, teacher_maps, k=8, form="projector")``
    """
    compare = SPECTRAL_FORMS.resolve(form)
    student, teacher = _channels(student, teacher, compare is not spectrum)
    return mean_over_batch(spectral_distances(student, teacher, AFFINITIES.resolve(affinity), compare, k))


def _channels(student: Tensor, teacher: Tensor, one_by_one: bool = True) -> tuple[Tensor, Tensor]:
    same_maps(student, teacher, channels=one_by_one)
    student, teacher = to_smaller(student, teacher)
    return student.flatten(2), teacher.flatten(2)


def tempered(attention: str | Attention, tau: float | None) -> Attention:
    """Masks at another temperature, where one is given."""
    function = ATTENTION.resolve(attention)
    return function if tau is None or attention == "off" else partial(function, tau=tau)


def weighed_squares(
    student: Float[Tensor, "b c n"], teacher: Float[Tensor, "b c n"], masks: Masks
) -> Float[Tensor, " b"]:
    """Squared differences of vertices, each weighed by the attention of its channel and of its position."""
    weight = masks.channel.unsqueeze(-1) * masks.spatial.unsqueeze(-2)
    return (weight * (student - teacher).square()).mean((-2, -1))


def weighed_edges(
    student: Float[Tensor, "b c n"],
    teacher: Float[Tensor, "b c n"],
    affinity: Affinity,
    alignment: Alignment,
    masks: Masks | None,
) -> Float[Tensor, ""]:
    """Edges aligned, each weighed by the attention of its two channels; ``None``: all alike."""
    ours, theirs = affinity.within(student), affinity.within(teacher)
    if masks is not None:
        theirs = replace(theirs, weight=masks.channel.unsqueeze(-1) * masks.channel.unsqueeze(-2))
    return align(ours, theirs, alignment)


def spectral_distances(
    student: Float[Tensor, "b c n"], teacher: Float[Tensor, "b d n"], affinity: Affinity, form: SpectralForm, k: int
) -> Float[Tensor, " b"]:
    """The spectral form of each image's two channel graphs."""
    ours, theirs = (operator_of(affinity.within(x).dense()) for x in (student, teacher))
    return form(ours, theirs, k)
