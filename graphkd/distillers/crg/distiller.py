"""Channel relational graph: a student learns how the channels of a teacher's feature maps relate to each other."""

from collections.abc import Mapping
from typing import ClassVar, Unpack, final

import torch

from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.crg.graph import ChannelGraph, GraphOptions
from graphkd.distillers.crg.levels import Level, Probed, pair_levels, share_of_levels
from graphkd.distillers.crg.terms import WEIGHED, AttentionTerm, ChannelEdgeTerm, SpectralTerm, VertexTerm, tempered
from graphkd.distillers.kd import kd
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import OptionError
from graphkd.features import Features
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.attention import Attention
from graphkd.graphs.channels import VERTEX_LOSSES, VertexLoss
from graphkd.graphs.graph import Graph
from graphkd.graphs.spectral import SCALINGS, Scaling, SpectralGraph
from graphkd.graphs.spectral_losses import SPECTRAL_FORMS, SpectralForm, compares_nodes
from graphkd.registry import unknown
from graphkd.typing import Float, Side, Tensor


@final
@DISTILLERS.register("crg")
class CRGDistiller(Distiller):
    r"""Align channels, their relations and the spectral embedding of their graph at several levels.

    .. math::
        L = \alpha L_V + \beta L_E + \gamma L_S, \quad
        L_V = \tfrac{1}{CN} \sum_{ip} A^c_i A^s_p (\phi(F^S)_{ip} - F^T_{ip})^2

        L_E = \tfrac{1}{C^2} \sum_{ij} A^c_i A^c_j (E^S_{ij} - E^T_{ij})^2, \quad
        L_S = \tfrac1k \lVert (\mathrm{Lap}_S - \mathrm{Lap}_T)\, U_T \rVert_F^2

    for each image and level, then means; F are maps of C channels and N positions, :math:`\phi` the adapter, A FGD's
    masks of the teacher, E cosines of channels, Lap the Laplacian of relu(Pearson correlation), U_T the teacher's k
    smoothest non-trivial eigenvectors. The task's own loss L_origin is the caller's (``Step(..., task=...)``).

    CRG/SEKD-style: follows the abstract and the loss decomposition L_origin + alpha L_V + beta L_E + gamma L_S; not a
    reproduction.

    The paper (Wang et al., arXiv 2405.08547) gives the ingredients: multi-level channel graphs, attention, spectral
    embedding. Every formula, weight and default here is our choice.

    Args:
        levels: pairs of maps; :meth:`between` makes them. Whether a map is taken before or after its ReLU is the
            tap's choice; the defaults expect after.
        alpha, beta, gamma: weights of the terms ``crg/vertex``, ``crg/edge``, ``crg/spectral``; defaults 0.5, 0.5, 0.1;
            0 removes the term and what only it needs.
        warmup_steps: updates in which gamma grows linearly from 0; default 0: only the caller knows how many updates
            the first epochs have. A training batch counts as an update, the chunks of a ``Step`` as one; a loop that
            accumulates gradients says so, see :func:`graphkd.distillers.base.same_update`.
        attention_weight: of ``crg/attention``, the distance of both networks' masks; default 0.
        kd_weight, kd_temperature: of ``crg/kd``, KL on the logits times T^2; defaults 0 and 4.
        reduction: ``"mean"`` (default) or ``"sum"`` over levels.
        level_weights: extra weight of a level by the student's map; default 1.
        vertex_loss: ``"mse"`` (default), ``"sum"``, ``"root"``, ``"unit"``, ``"pearson"``, or a function.
        edge_alignment: ``"mse"`` (default), ``"huber"``, ``"kl"``, ``"graph_squares"``, ``"row_squares"`` (ICKD), or
            another of ``graphkd.graphs.alignments``.
        diagonal: count self-relations; default on.
        vertex_attention, edge_attention, spectral_attention: ``"teacher"`` (default; off for the spectrum),
            ``"mean"`` of both networks, ``"off"``, or a function.
        tau: softmax temperature of all masks, > 0; default 0.5 for the teacher's, 0.1 for the mean.
        spectral_attention_on: ``"weights"`` (default, W_ij sqrt(A_i A_j)) or ``"rows"`` (of what the form compares).
        spectral_form: ``"residual"`` (default) or another of ``graphkd.graphs.spectral_losses``.
        k: number of eigenvectors; default 8.
        scaling: ``"none"`` (default), ``"diffusion"``, ``"commute"``, or a Scaling.
        spectral_graph: non-negativity, Laplacian, neighbours, precision; default ``SpectralGraph()``.
        edge_affinity: ``"cosine"`` (default), ``"pearson"``, ``"gram"`` (divided by N), ``"unit_gram"`` (ICKD),
            ``"rbf"`` (median width), ``"euclidean"``, or an Affinity.
        spectral_affinity: likewise, or ``"edge"`` for the same; default ``"pearson"``.
        scope: one graph for each ``"image"`` (default), the ``"mean"`` of the batch's affinities, or channels
            ``"concatenated"`` over the batch; the last two span all ranks and apply to edges and spectrum.
        adapter: ``"auto"`` (default: 1x1 convolution and BatchNorm if channels differ), ``"always"``, ``"conv"``,
            ``"none"``, or a function of both numbers of channels.
        adapter_sharing: ``"shared"`` (default), ``"separate"`` for each term, or ``"vertex"``: trained by it alone.
        resize: ``"pool"`` (default) to the smaller map, or ``"bilinear"`` to the teacher's; both up to 28 x 28.
        vertices: ``"channels"`` (default), ``"gap"`` (their means; use ``"euclidean"`` or ``"gram"`` affinities and
            gamma 0), ``"cells"`` (a graph for each cell of a grid), or a function.

    Shapes: student maps (b, c, h, w), teacher maps (b, d, y, x) of the same images.
    Raises: UnknownNameError, OptionError; ShapeError for other channels; MissingFeatureError for an absent map.
    Example: ``CRGDistiller.between(student_features, teacher_features, maps={"layer3": "layer3", "layer4": "layer4"})``
    Differs from the official code: none has been published (the authors' repository holds an earlier method).
    Over several ranks the adapters' BatchNorm sees each rank's images: convert it to SyncBatchNorm on GPUs.
    """

    global_batch: ClassVar[str] = "per_image"
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"vertex", "edge", "spectral", "attention"})
    steps: Tensor

    def __init__(
        self,
        levels: list[Level],
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 0.1,
        warmup_steps: int = 0,
        attention_weight: float = 0.0,
        kd_weight: float = 0.0,
        kd_temperature: float = 4.0,
        reduction: str = "mean",
        level_weights: Mapping[str, float] | None = None,
        vertex_loss: str | VertexLoss = "mse",
        edge_alignment: str | Alignment = "mse",
        diagonal: bool = True,
        vertex_attention: str | Attention = "teacher",
        edge_attention: str | Attention = "teacher",
        spectral_attention: str | Attention = "off",
        tau: float | None = None,
        spectral_attention_on: str = "weights",
        spectral_form: str | SpectralForm = "residual",
        k: int = 8,
        scaling: str | Scaling = "none",
        spectral_graph: SpectralGraph | None = None,
        **graph: Unpack[GraphOptions],
    ) -> None:
        super().__init__()
        if spectral_attention_on not in WEIGHED:
            raise unknown("place of the spectral attention", spectral_attention_on, list(WEIGHED))
        if kd_temperature <= 0 or warmup_steps < 0:
            raise OptionError(f"kd_temperature is > 0 and warmup_steps >= 0, found {kd_temperature} and {warmup_steps}")
        self.kd_temperature, self.warmup_steps = kd_temperature, warmup_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        form = SPECTRAL_FORMS.resolve(spectral_form)
        used = {"vertex": alpha + attention_weight, "edge": beta, "spectral": gamma}
        compared = ["vertex", "edge", *(["spectral"] if compares_nodes(form) else [])]
        self.graph = ChannelGraph(levels, [name for name, weight in used.items() if weight], compared, **graph)
        each = share_of_levels(levels, reduction, level_weights or {})
        at_vertex, at_edge, at_spectrum = (
            tempered(a, tau) for a in (vertex_attention, edge_attention, spectral_attention)
        )
        edge = (
            ChannelEdgeTerm(each, self.graph, ALIGNMENTS.resolve(edge_alignment), at_edge, diagonal) if beta else None
        )
        shape = spectral_graph or SpectralGraph()
        self._spectral = SpectralTerm(
            each, self.graph, form, k, SCALINGS.resolve(scaling), shape, at_spectrum, spectral_attention_on
        )
        self.terms = self.table(
            vertex=(alpha, VertexTerm(each, VERTEX_LOSSES.resolve(vertex_loss), at_vertex)),
            edge=(beta, edge),
            spectral=(gamma, self._warm_spectral),
            attention=(attention_weight, AttentionTerm(each, tau or 0.5)),
            kd=(kd_weight, self._kd),
        )

    @classmethod
    def between(
        cls,
        student: Probed,
        teacher: Probed,
        *,
        maps: MapPairs = None,
        probe: Float[Tensor, "b 3 h w"] | None = None,
        **options: object,
    ) -> "CRGDistiller":
        """A distiller of the right size.

        Args:
            student, teacher: Features of a batch, numbers of channels by map, or a network that gives Features.
            maps: student's map -> teacher's map; default: all, in their order.
            probe: images to run a network with, where one was given.
            options: as of the constructor.

        Raises: UnknownNameError for an absent map, ShapeError for maps that do not pair, OptionError for a network
            without probe.
        """
        return cls(pair_levels(student, teacher, maps, probe), **options)  # type: ignore[arg-type]

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Records whose maps are resized and, the student's, adapted."""
        return self.graph.prepare(student, teacher)

    def begin(self) -> None:
        """One more update of the warm-up."""
        if self.training and not self.same_update and self.warmup_steps:
            self.steps += 1

    def build(self, features: Features, side: Side) -> Graph:
        """Channels as nodes at every level, for each term."""
        return self.graph.build(features, side)

    def _warm_spectral(self, pair: Pair) -> Float[Tensor, ""]:
        value = self._spectral(pair)
        return value * (self.steps / self.warmup_steps).clamp(max=1).to(value.dtype) if self.warmup_steps else value

    def _kd(self, pair: Pair) -> Float[Tensor, ""]:
        student, teacher = (x.tensor("logits", "CRG's kd term") for x in (pair.student_features, pair.teacher_features))
        return kd.over_ranks(student, teacher, self.kd_temperature)
