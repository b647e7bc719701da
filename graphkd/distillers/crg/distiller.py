"""Channel relational graph: a student learns how the channels of a teacher's feature maps relate to each other."""

from collections.abc import Sequence
from typing import ClassVar, Final, final

import torch
from torch import nn

from graphkd.distillers.adapters import ADAPTERS, Adapter, adapt
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.crg.losses import spectral_distances, tempered, weighed_edges, weighed_squares
from graphkd.distillers.parts import channel_graph, matched_maps
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import OptionError
from graphkd.features import Features
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.attention import Attention
from graphkd.graphs.channels import AFFINITIES, Affinity
from graphkd.graphs.graph import Graph
from graphkd.graphs.spectral import SPECTRAL_FORMS, SpectralForm
from graphkd.typing import Float, Side, Tensor

LARGEST: Final = 28  # height and width of the compared maps


@final
@DISTILLERS.register("crg")
class CRGDistiller(Distiller):
    r"""Align channels, their relations and the spectral embedding of their graph at several levels.

    .. math::
        L = \alpha L_V + \beta L_E + \gamma L_S, \quad
        L_V = \tfrac{1}{CN} \sum_{ip} A^c_i A^s_p (\phi(F^S)_{ip} - F^T_{ip})^2

        L_E = \tfrac{1}{C^2} \sum_{ij} A^c_i A^c_j (E^S_{ij} - E^T_{ij})^2, \quad
        L_S = \tfrac1k \lVert (\mathrm{Lap}_S - \mathrm{Lap}_T)\, U_T \rVert_F^2

    for each image and level, then means; F are maps of C channels and N positions, the larger averaged to the smaller,
    28 x 28 at most, :math:`\phi` the adapter, A FGD's masks of the teacher, E cosines of channels, Lap the Laplacian of
    relu(Pearson correlation), U_T the teacher's k smoothest non-trivial eigenvectors. The task's own
    loss L_origin is the caller's (``Step(..., task=...)``).

    CRG/SEKD-style: follows the abstract and the loss decomposition L_origin + alpha L_V + beta L_E + gamma L_S; not a
    reproduction.

    The paper (Wang et al., arXiv 2405.08547) gives the ingredients: multi-level channel graphs, attention, spectral
    embedding. Every formula, weight and default here is our choice.

    Args:
        channels: (student's, teacher's) channels of each pair of maps. Whether a map is taken before or after its ReLU
            is the tap's choice; the defaults expect after.
        alpha, beta, gamma: weights of the terms ``crg/vertex``, ``crg/edge``, ``crg/spectral``; defaults 0.5, 0.5, 0.1;
            0 removes the term.
        warmup_steps: updates in which gamma grows linearly from 0; default 0: only the caller knows how many updates
            the first epochs have. A training batch counts as an update, the chunks of a ``Step`` as one; a loop that
            accumulates gradients says so, see :func:`graphkd.distillers.base.same_update`.
        edge_alignment: ``"mse"`` (default), ``"huber"``, ``"kl"``, ``"row_squares"`` (ICKD), or another of
            ``graphkd.graphs.alignments``.
        vertex_attention, edge_attention: ``"teacher"`` (default), ``"off"``, or a function.
        tau: softmax temperature of the masks, > 0; default 0.5.
        spectral_form: ``"residual"`` (default), ``"projector"``, ``"heat"``, ``"spectrum"``, or a function.
        k: number of eigenvectors; default 8.
        edge_affinity: ``"cosine"`` (default), ``"pearson"``, ``"unit_gram"`` (ICKD), ``"rbf"`` (median width), or an
            Affinity.
        spectral_affinity: likewise; default ``"pearson"``.
        adapter: ``"auto"`` (default: 1x1 convolution and BatchNorm if channels differ), ``"conv"``, ``"conv_bn"``,
            ``"conv_bn_relu"``, ``"none"`` for equal channels, or a function of both numbers of channels.
        maps: student's map -> teacher's map; default: all, in order.

    Shapes: student maps (b, c, h, w), teacher maps (b, d, y, x) of the same images.
    Raises: UnknownNameError, OptionError; ShapeError for other channels; MissingFeatureError without maps.
    Example: ``CRGDistiller.between(student_features, teacher_features, maps={"layer3": "layer3", "layer4": "layer4"})``
    Differs from the official code: none has been published (the authors' repository holds an earlier method).
    Over several ranks the adapters' BatchNorm sees each rank's images: convert it to SyncBatchNorm on GPUs.
    """

    global_batch: ClassVar[str] = "per_image"
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"vertex", "edge", "spectral"})
    sized_by: ClassVar[tuple[str, ...]] = ("channels",)
    steps: Tensor

    def __init__(
        self,
        channels: Sequence[tuple[int, int]],
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 0.1,
        warmup_steps: int = 0,
        edge_alignment: str | Alignment = "mse",
        vertex_attention: str | Attention = "teacher",
        edge_attention: str | Attention = "teacher",
        tau: float | None = None,
        spectral_form: str | SpectralForm = "residual",
        k: int = 8,
        edge_affinity: str | Affinity = "cosine",
        spectral_affinity: str | Affinity = "pearson",
        adapter: str | Adapter = "auto",
        maps: MapPairs = None,
    ) -> None:
        super().__init__()
        if warmup_steps < 0:
            raise OptionError(f"warmup_steps is >= 0, found {warmup_steps}")
        self.channels, self.pairs, self.warmup_steps = channels, maps, warmup_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.vertex_masks = tempered(vertex_attention, tau)
        self.edge_masks = None if edge_attention == "off" else tempered(edge_attention, tau)
        self.alignment, self.form, self.k = ALIGNMENTS.resolve(edge_alignment), SPECTRAL_FORMS.resolve(spectral_form), k
        affinities = {"edge": edge_affinity, "spectral": spectral_affinity}
        self.affinities = {term: AFFINITIES.resolve(each) for term, each in affinities.items()}
        make = ADAPTERS.resolve(adapter)
        self.adapters = nn.ModuleList(make(*pair) for pair in channels)
        self.terms = self.weighted_terms(
            vertex=(alpha, self._vertex), edge=(beta, self._edge), spectral=(gamma, self._spectral)
        )

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps in one size, 28 x 28 at most."""
        return matched_maps(student, teacher, self.pairs, "CRG", LARGEST)

    def begin(self) -> None:
        """One more update of the warm-up."""
        if self.training and not self.same_update and self.warmup_steps:
            self.steps += 1

    def build(self, features: Features, side: Side) -> Graph:
        """Channels of each level, the student's adapted, and their relations."""
        graph = channel_graph(adapt(self.adapters, self.channels, features, side, "CRG"))
        for name in graph.node_types:
            for term, affinity in self.affinities.items():
                if term in self.terms:
                    graph.connect(name, affinity.relation, name, normalise=affinity.normalise)
        return graph

    def _vertex(self, pair: Pair) -> Float[Tensor, ""]:
        values = [weighed_squares(*nodes, self.vertex_masks(*nodes)) for nodes in _levels(pair)]
        return mean_over_batch(torch.stack(values).mean(0))

    def _edge(self, pair: Pair) -> Float[Tensor, ""]:
        affinity, masks = self.affinities["edge"], self.edge_masks
        values = [weighed_edges(*nodes, affinity, self.alignment, masks and masks(*nodes)) for nodes in _levels(pair)]
        return torch.stack(values).mean()

    def _spectral(self, pair: Pair) -> Float[Tensor, ""]:
        affinity = self.affinities["spectral"]
        values = [spectral_distances(*nodes, affinity, self.form, self.k) for nodes in _levels(pair)]
        value = mean_over_batch(torch.stack(values).mean(0))
        return value * (self.steps / self.warmup_steps).clamp(max=1).to(value.dtype) if self.warmup_steps else value


def _levels(pair: Pair) -> list[tuple[Tensor, Tensor]]:
    return [(pair.student[name].x, pair.teacher[name].x) for name in pair.student.node_types]
