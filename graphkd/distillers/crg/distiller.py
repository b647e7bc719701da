"""Channel relational graph: a student learns how the channels of a teacher's feature maps relate to each other."""

from dataclasses import replace
from functools import partial
from typing import ClassVar, Final, final

import torch
from torch import nn

from graphkd.distillers.adapters import CHANNEL_ADAPTERS, Adapter
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.crg.levels import Level, Probed, map_of, pair_levels
from graphkd.distillers.crg.losses import tempered, weighed_edges
from graphkd.distillers.kd import kd
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import OptionError, ShapeError
from graphkd.features import Features
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.attention import Attention, attention_transfer
from graphkd.graphs.channels import AFFINITIES, VERTEX_LOSSES, Affinity, VertexLoss, to_smaller
from graphkd.graphs.edges import Edges
from graphkd.graphs.graph import Graph
from graphkd.graphs.relations import name_of
from graphkd.graphs.spectral import SCALINGS, Scaling, SpectralGraph
from graphkd.graphs.spectral_losses import SPECTRAL_FORMS, SpectralForm, compares_nodes
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
        levels: pairs of maps; :meth:`between` makes them. Whether a map is taken before or after its ReLU is the
            tap's choice; the defaults expect after.
        alpha, beta, gamma: weights of the terms ``crg/vertex``, ``crg/edge``, ``crg/spectral``; defaults 0.5, 0.5, 0.1;
            0 removes the term and what only it needs.
        warmup_steps: updates in which gamma grows linearly from 0; default 0: only the caller knows how many updates
            the first epochs have. A training batch counts as an update, the chunks of a ``Step`` as one; a loop that
            accumulates gradients says so, see :func:`graphkd.distillers.base.same_update`.
        attention_weight: of ``crg/attention``, the distance of both networks' masks; default 0.
        kd_weight, kd_temperature: of ``crg/kd``, KL on the logits times T^2; defaults 0 and 4.
        vertex_loss: ``"mse"`` (default), ``"sum"``, ``"root"``, ``"unit"``, ``"pearson"``, or a function.
        edge_alignment: ``"mse"`` (default), ``"huber"``, ``"kl"``, ``"graph_squares"``, ``"row_squares"`` (ICKD), or
            another of ``graphkd.graphs.alignments``.
        vertex_attention, edge_attention: ``"teacher"`` (default), ``"mean"`` of both networks, ``"off"``, or a
            function.
        tau: softmax temperature of all masks, > 0; default 0.5 for the teacher's, 0.1 for the mean.
        spectral_form: ``"residual"`` (default) or another of ``graphkd.graphs.spectral_losses``.
        k: number of eigenvectors; default 8.
        scaling: ``"none"`` (default), ``"diffusion"``, ``"commute"``, or a Scaling.
        spectral_graph: non-negativity, Laplacian, neighbours, precision; default ``SpectralGraph()``.
        edge_affinity: ``"cosine"`` (default), ``"pearson"``, ``"gram"`` (divided by N), ``"unit_gram"`` (ICKD),
            ``"rbf"`` (median width), ``"euclidean"``, or an Affinity.
        spectral_affinity: likewise; default ``"pearson"``.
        adapter: ``"auto"`` (default: 1x1 convolution and BatchNorm if channels differ), ``"always"``, ``"conv"``,
            ``"none"``, or a function of both numbers of channels.

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
        vertex_loss: str | VertexLoss = "mse",
        edge_alignment: str | Alignment = "mse",
        vertex_attention: str | Attention = "teacher",
        edge_attention: str | Attention = "teacher",
        tau: float | None = None,
        spectral_form: str | SpectralForm = "residual",
        k: int = 8,
        scaling: str | Scaling = "none",
        spectral_graph: SpectralGraph | None = None,
        edge_affinity: str | Affinity = "cosine",
        spectral_affinity: str | Affinity = "pearson",
        adapter: str | Adapter = "auto",
    ) -> None:
        super().__init__()
        if kd_temperature <= 0 or warmup_steps < 0:
            raise OptionError(f"kd_temperature is > 0 and warmup_steps >= 0, found {kd_temperature} and {warmup_steps}")
        self.kd_temperature, self.warmup_steps, self.tau = kd_temperature, warmup_steps, tau or 0.5
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.levels, self.vertex_loss = levels, VERTEX_LOSSES.resolve(vertex_loss)
        self.alignment, self.edge_affinity = ALIGNMENTS.resolve(edge_alignment), AFFINITIES.resolve(edge_affinity)
        self.vertex_masks, self.edge_masks = tempered(vertex_attention, tau), tempered(edge_attention, tau)
        self.weighed = edge_attention != "off"
        self.form, self.k, self.scaling = SPECTRAL_FORMS.resolve(spectral_form), k, SCALINGS.resolve(scaling)
        self.spectral_graph = spectral_graph or SpectralGraph()
        self.spectral_affinity = AFFINITIES.resolve(spectral_affinity)
        self.terms = self.weighted_terms(
            vertex=(alpha, self._vertex),
            edge=(beta, self._edge),
            spectral=(gamma, self._spectral),
            attention=(attention_weight, self._attention),
            kd=(kd_weight, self._kd),
        )
        self._check_options(adapter)
        make, used = CHANNEL_ADAPTERS.resolve(adapter), self.terms.keys() - {"kd"}
        self.adapters = nn.ModuleList(make(*level[2:]) for level in levels if used)

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
        ours: dict[str, Tensor] = {}
        theirs: dict[str, Tensor] = {}
        for level, adapter in zip(self.levels, self.adapters, strict=False):  # no adapters: no term reads a map
            x, y = map_of(student, level, "student"), map_of(teacher, level, "teacher")
            x, y = to_smaller(x, y, LARGEST)
            ours[level.student], theirs[level.student] = adapter(x), y
        return replace(student, maps=ours), replace(teacher, maps=theirs)

    def begin(self) -> None:
        """One more update of the warm-up."""
        if self.training and not self.same_update and self.warmup_steps:
            self.steps += 1

    def build(self, features: Features, side: Side) -> Graph:
        """Channels of each level, by the name of the student's map, and their relations."""
        graph = Graph()
        for name, maps in features.need("maps", "CRG").items():
            graph.add(name, maps.flatten(2), "image")
            for term, affinity in (("edge", self.edge_affinity), ("spectral", self.spectral_affinity)):
                if term in self.terms:
                    graph.connect(name, affinity.relation, name, normalise=affinity.normalise)
        return graph

    def _vertex(self, pair: Pair) -> Float[Tensor, ""]:
        values = [self.vertex_loss(*nodes, self.vertex_masks(*nodes)) for nodes in self._nodes(pair)]
        return mean_over_batch(torch.stack(values).mean(0))

    def _attention(self, pair: Pair) -> Float[Tensor, ""]:
        values = [attention_transfer(*nodes, self.tau) for nodes in self._nodes(pair)]
        return mean_over_batch(torch.stack(values).mean(0))

    def _edge(self, pair: Pair) -> Float[Tensor, ""]:
        both = zip(self._nodes(pair), self._edges(pair, self.edge_affinity), strict=True)
        values = [
            weighed_edges(*edges, self.alignment, self.edge_masks(*nodes) if self.weighed else None)
            for nodes, edges in both
        ]
        return torch.stack(values).mean()

    def _spectral(self, pair: Pair) -> Float[Tensor, ""]:
        values = []
        for student, teacher in self._edges(pair, self.spectral_affinity):
            operators = self.spectral_graph(student.dense(), teacher.dense())
            values.append(self.form(*operators, self.k, self.scaling))
        value = mean_over_batch(torch.stack(values).mean(0).to(pair.student_features.dtype))
        return value * (self.steps / self.warmup_steps).clamp(max=1).to(value.dtype) if self.warmup_steps else value

    def _kd(self, pair: Pair) -> Float[Tensor, ""]:
        student, teacher = (x.tensor("logits", "CRG's kd term") for x in (pair.student_features, pair.teacher_features))
        return kd.over_ranks(student, teacher, self.kd_temperature)

    def _nodes(self, pair: Pair) -> list[tuple[Tensor, Tensor]]:
        return [(pair.student[each.student].x, pair.teacher[each.student].x) for each in self.levels]

    def _edges(self, pair: Pair, affinity: Affinity) -> list[tuple[Edges, Edges]]:
        made = partial(Edges, relation=affinity.relation, normalise=affinity.normalise, name=name_of(affinity.relation))
        return [(made(student, student), made(teacher, teacher)) for student, teacher in self._nodes(pair)]

    def _check_options(self, adapter: str | Adapter) -> None:
        probe = torch.zeros(1, 2, 2)
        if "edge" in self.terms and self.weighed and self.alignment.penalty(probe, probe).shape != probe.shape:
            raise OptionError(
                f"edge_alignment {self.alignment.name!r} compares whole rows and takes no weight of single edges: "
                "edge_attention='off'"
            )
        compared = self.terms.keys() - {"kd"} - (set() if compares_nodes(self.form) else {"spectral"})
        for level in self.levels if adapter == "none" and compared else ():
            if level.student_channels != level.teacher_channels:
                raise ShapeError(
                    f"{level.student!r} has {level.student_channels} channels, {level.teacher!r} "
                    f"{level.teacher_channels}, and the terms {', '.join(sorted(compared))} compare channel by "
                    "channel: adapter='auto', or spectral_form='spectrum' alone"
                )
