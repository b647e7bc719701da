r"""CRG's terms as functions of one pair of feature maps.

CRG/SEKD-style: follows the abstract and the loss decomposition L_origin + alpha L_V + beta L_E + gamma L_S; not a
reproduction.
"""

from dataclasses import replace
from functools import partial

from graphkd.checks import same_samples, tensor_loss
from graphkd.distillers.base import mean_over_batch
from graphkd.graphs.align import align
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.attention import ATTENTION, Attention, Masks
from graphkd.graphs.channels import AFFINITIES, VERTEX_LOSSES, Affinity, VertexLoss, entry_weight, same_maps
from graphkd.graphs.edges import Edges
from graphkd.graphs.spectral import SCALINGS, Scaling, SpectralGraph
from graphkd.graphs.spectral_losses import SPECTRAL_FORMS, SpectralForm, compares_nodes
from graphkd.typing import Float, Tensor


@tensor_loss
def crg_vertex(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b c h w"],
    *,
    loss: str | VertexLoss = "mse",
    attention: str | Attention = "teacher",
    tau: float | None = None,
) -> Float[Tensor, ""]:
    r"""Channel by channel, position by position, weighed by the teacher's attention.

    .. math:: L_V = \frac{1}{CN} \sum_{ip} A^c_i A^s_p (F^S_{ip} - F^T_{ip})^2, \quad \text{mean over images}

    Args:
        student, teacher: feature maps; no gradient reaches the teacher.
        loss: ``"mse"`` (default), ``"sum"``, ``"root"``, ``"unit"``, ``"pearson"``, or a function.
        attention: ``"teacher"`` (FGD, default), ``"mean"`` (of both networks), ``"off"``, or a function.
        tau: softmax temperature of the attention, > 0; default 0.5 (``"teacher"``), 0.1 (``"mean"``).
    Shapes: (b, c, h, w) twice -> scalar.
    Raises: ShapeError for maps of different shapes, UnknownNameError, OptionError.
    Example: ``crg_vertex(student_maps, teacher_maps)``
    """
    student, teacher = _channels(student, teacher)
    masks = tempered(attention, tau)(student, teacher)
    return mean_over_batch(VERTEX_LOSSES.resolve(loss)(student, teacher, masks))


@tensor_loss
def crg_edge(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b c h w"],
    *,
    affinity: str | Affinity = "cosine",
    alignment: str | Alignment = "mse",
    attention: str | Attention = "teacher",
    tau: float | None = None,
    diagonal: bool = True,
) -> Float[Tensor, ""]:
    r"""Relations of channels, weighed by the teacher's attention.

    .. math:: L_E = \frac{1}{C^2} \sum_{ij} A^c_i A^c_j (E^S_{ij} - E^T_{ij})^2, \quad E_{ij} = \cos(v_i, v_j)

    Args:
        student, teacher: feature maps; no gradient reaches the teacher.
        affinity: ``"cosine"`` (default), ``"pearson"``, ``"gram"`` (divided by positions), ``"unit_gram"`` (ICKD),
            ``"rbf"``, ``"euclidean"``.
        alignment: ``"mse"`` (default), ``"huber"``, ``"graph_squares"``, ``"row_squares"`` (ICKD), or another of
            ``graphkd.graphs.alignments``; those that compare whole rows (``"kl"``) need attention ``"off"``.
        attention, tau: as of :func:`crg_vertex`.
        diagonal: count the diagonal; default on.
    Shapes: (b, c, h, w) twice -> scalar.
    Raises: ShapeError for maps of different shapes, UnknownNameError, OptionError.
    Example: ``crg_edge(student_maps, teacher_maps, affinity="unit_gram", alignment="row_squares", attention="off")``
        is ICKD's loss.
    """
    student, teacher = _channels(student, teacher)
    relation, normalise = AFFINITIES.resolve(affinity)
    ours, theirs = (Edges(x, x, relation, normalise) for x in (student, teacher))
    masked = attention != "off" or not diagonal
    masks = tempered(attention, tau)(student, teacher) if masked else None
    return weighed_edges(ours, theirs, ALIGNMENTS.resolve(alignment), masks, diagonal)


@tensor_loss
def crg_spectral(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b d h w"],
    *,
    k: int = 8,
    form: str | SpectralForm = "residual",
    affinity: str | Affinity = "pearson",
    graph: SpectralGraph | None = None,
    scaling: str | Scaling = "none",
) -> Float[Tensor, ""]:
    r"""The student's channel graph in the space of the teacher's k smoothest eigenvectors.

    .. math:: L_S = \frac1k \lVert (\mathrm{Lap}_S - \mathrm{Lap}_T)\, U_T \rVert_F^2, \quad \text{mean over images}

    Args:
        student, teacher: feature maps; no gradient reaches the teacher.
        k: number of eigenvectors; default 8.
        form: ``"residual"`` (default) or another of ``graphkd.graphs.spectral_losses``.
        affinity: as of :func:`crg_edge`; default ``"pearson"``.
        graph: how affinities become a Laplacian; default ``SpectralGraph()``.
        scaling: ``"none"`` (default), ``"diffusion"``, ``"commute"``, or a Scaling.
    Shapes: (b, c, h, w) twice -> scalar; any two shapes for the forms ``"spectrum"`` and ``"heat_trace"``.
    Raises: ShapeError for maps of different shapes; OptionError for fewer than k eigenvectors.
    Example: ``crg_spectral(student_maps, teacher_maps, k=8, form="projector")``
    """
    compare = SPECTRAL_FORMS.resolve(form)
    student, teacher = _channels(student, teacher, compares_nodes(compare))
    relation, normalise = AFFINITIES.resolve(affinity)
    ours, theirs = (Edges(x, x, relation, normalise).dense() for x in (student, teacher))
    operators = (graph or SpectralGraph())(ours, theirs)
    return mean_over_batch(compare(*operators, k, SCALINGS.resolve(scaling)).to(student.dtype))


def _channels(student: Tensor, teacher: Tensor, compared: bool = True) -> tuple[Tensor, Tensor]:
    same_samples(student, teacher, 4)
    if compared:
        same_maps(student, teacher)
    return student.flatten(2), teacher.flatten(2)


def tempered(attention: str | Attention, tau: float | None) -> Attention:
    """Masks at another temperature, where one is given."""
    function = ATTENTION.resolve(attention)
    return function if tau is None or attention == "off" else partial(function, tau=tau)


def weighed_edges(
    student: Edges, teacher: Edges, alignment: Alignment, masks: Masks | None, diagonal: bool = True
) -> Float[Tensor, ""]:
    """Edges aligned, each weighed by the attention of its two channels; ``None``: all alike."""
    if masks is not None:
        teacher = replace(teacher, weight=entry_weight(masks.channel, diagonal))
    return align(student, teacher, alignment)
