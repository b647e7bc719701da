r"""The terms of CRG: as functions of one pair of feature maps, and over all levels of a distiller.

CRG/SEKD-style: follows the abstract and the loss decomposition L_origin + alpha L_V + beta L_E + gamma L_S; not a
reproduction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from graphkd.checks import same_samples, tensor_loss
from graphkd.distillers.base import Pair, mean_over_batch
from graphkd.distillers.crg.graph import ChannelGraph
from graphkd.distillers.crg.levels import Level
from graphkd.errors import OptionError
from graphkd.graphs.align import align
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.attention import ATTENTION, Attention, Masks, attention_transfer
from graphkd.graphs.channels import AFFINITIES, VERTEX_LOSSES, Affinity, VertexLoss, entry_weight, same_maps
from graphkd.graphs.edges import Edges
from graphkd.graphs.spectral import SCALINGS, Operator, Scaling, SpectralGraph
from graphkd.graphs.spectral_losses import SPECTRAL_FORMS, SpectralForm, compares_nodes
from graphkd.typing import Float, Tensor

WEIGHED = ("weights", "rows")


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
    if attention != "off" or not diagonal:
        channel = tempered(attention, tau)(student, teacher).channel
        theirs = replace(theirs, weight=entry_weight(channel, diagonal))
    return align(ours, theirs, ALIGNMENTS.resolve(alignment))


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


def nodes(pair: Pair, purpose: str, level: Level) -> tuple[Tensor, Tensor]:
    """Student's and teacher's nodes of one level."""
    name = f"{purpose}:{level.student}"
    return pair.student[name].x, pair.teacher[name].x


@dataclass(frozen=True)
class VertexTerm:
    """Compare channels one by one. ``weights``: of each level, by the name of the student's map."""

    weights: Mapping[Level, float]
    loss: VertexLoss
    attention: Attention

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Weighted distance, mean over the images of all ranks."""
        values = []
        for level, weight in self.weights.items():
            student, teacher = nodes(pair, "vertex", level)
            values.append(weight * self.loss(student, teacher, self.attention(student, teacher)))
        return mean_over_batch(torch.stack(values).sum(0))


@dataclass(frozen=True)
class AttentionTerm:
    """Compare the masks of both networks."""

    weights: Mapping[Level, float]
    tau: float

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Weighted distance, mean over the images of all ranks."""
        values = [w * attention_transfer(*nodes(pair, "vertex", level), self.tau) for level, w in self.weights.items()]
        return mean_over_batch(torch.stack(values).sum(0))


@dataclass(frozen=True)
class ChannelEdgeTerm:
    """Compare relations of channels. ``diagonal``: whether self-relations count."""

    weights: Mapping[Level, float]
    graph: ChannelGraph
    alignment: Alignment
    attention: Attention
    diagonal: bool

    def __post_init__(self) -> None:
        probe = torch.zeros(1, 2, 2)
        if self._weighed and self.alignment.penalty(probe, probe).shape != probe.shape:
            raise OptionError(
                f"edge_alignment {self.alignment.name!r} compares whole rows and takes no weight of single edges: "
                "edge_attention='off' and diagonal=True"
            )

    @property
    def _weighed(self) -> bool:
        return self.attention is not ATTENTION.get("off") or not self.diagonal

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Weighted distance, reduced over the images of all ranks."""
        return torch.stack([weight * self._level(pair, level) for level, weight in self.weights.items()]).sum()

    def _level(self, pair: Pair, level: Level) -> Float[Tensor, ""]:
        edge_type = self.graph.edge_type("edge", level)
        student, teacher = pair.student.edges(*edge_type), pair.teacher.edges(*edge_type)
        if self._weighed:
            channel = self.graph.averaged(self.attention(*nodes(pair, "edge", level)).channel)
            teacher = replace(teacher, weight=entry_weight(channel, self.diagonal))
        return align(student, teacher, self.alignment)


@dataclass(frozen=True)
class SpectralTerm:
    """Compare spectral embeddings. ``weighed``: attention acts on the graph's weights or the form's rows."""

    weights: Mapping[Level, float]
    graph: ChannelGraph
    form: SpectralForm
    k: int
    scaling: Scaling
    spectral_graph: SpectralGraph
    attention: Attention
    weighed: str

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """Weighted distance, mean over the images of all ranks."""
        values = [weight * self._level(pair, level) for level, weight in self.weights.items()]
        return mean_over_batch(torch.stack(values).sum(0))

    def _level(self, pair: Pair, level: Level) -> Float[Tensor, " b"]:
        student, teacher = self._operators(pair, level)
        return self.form(student, teacher, self.k, self.scaling).to(pair.student_features.dtype)

    def _operators(self, pair: Pair, level: Level) -> tuple[Operator, Operator]:
        edge_type = self.graph.edge_type("spectral", level)
        student, teacher = pair.student.edges(*edge_type).dense(), pair.teacher.edges(*edge_type).dense()
        if self.attention is ATTENTION.get("off"):
            return self.spectral_graph(student, teacher)
        masks: Masks = self.attention(*nodes(pair, "spectral", level))
        channel = self.graph.averaged(masks.channel)
        if self.weighed == "weights":
            return self.spectral_graph(student, teacher, channel)
        ours, theirs = self.spectral_graph(student, teacher)
        rows = channel.to(theirs.laplacian.dtype).sqrt().unsqueeze(-1)
        return ours, replace(theirs, rows=rows)
