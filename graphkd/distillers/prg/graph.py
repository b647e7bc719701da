"""The graph of PRG: samples and class proxies of one network, and the samples as they meet the other network's."""

from typing import Final, TypedDict

import torch
from torch import nn

from graphkd import distributed
from graphkd.errors import OptionError, ShapeError
from graphkd.features import Features
from graphkd.graphs.graph import EdgeType, Graph
from graphkd.graphs.nodes import NODES, Parts
from graphkd.graphs.projectors import PROJECTORS, Projector
from graphkd.graphs.proxies import PROXIES, PROXY_LOGITS, OwnProxies
from graphkd.graphs.relations import ROW_MAPS, RowMap
from graphkd.registry import unknown
from graphkd.typing import Side, Tensor

EDGE_SETS: Final = {
    "class": (("sample", "class"),),
    "sample": (("sample", "sample"),),
    "both": (("sample", "class"), ("sample", "sample")),
    "full": (("vertex", "vertex"),),
}
TEACHER_PROXIES: Final = ("own", "class_mean", "class_mean_ema")  # a teacher has no gradient to learn others by


class ProxyPair(nn.Module):
    """Completes both records of features with their proxies and what each head says of them.

    Args:
        num_classes, student_dim, teacher_dim: sizes of the features.
        student, teacher: names of ``proxies.PROXIES``.
        logits: name of ``proxies.PROXY_LOGITS``, or ``"none"``: edges that read features only.
        used: whether any term reads a proxy; if not, none is learnt, since parameters that no term reaches would
            stall distributed training.

    Raises: UnknownNameError; MissingFeatureError from features without proxies.
    """

    def __init__(
        self,
        num_classes: int,
        student_dim: int,
        teacher_dim: int,
        student: str,
        teacher: str,
        logits: str,
        *,
        used: bool,
    ) -> None:
        super().__init__()
        self._logits = PROXY_LOGITS.get(logits)
        if teacher not in TEACHER_PROXIES:
            raise unknown("teacher proxy", teacher, list(TEACHER_PROXIES))
        sources = PROXIES.get(student), PROXIES.get(teacher)
        if not used:
            sources = OwnProxies, OwnProxies
        self.student = sources[0](num_classes, student_dim)
        self.teacher = sources[1](num_classes, teacher_dim)

    def forward(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with their proxies."""
        teacher = self._logits(self.teacher(teacher, teacher))
        student = self._logits(self.student(student, teacher))
        for side, features in (("teacher", teacher), ("student", student)):
            features.need("proxies", f"PRG ({side})")
            features.need("proxy_logits", f"PRG ({side})")
        return student, teacher


class GraphOptions(TypedDict, total=False):
    """Options of the graph; their meanings stand in ``PRGDistiller``, their defaults in ``ProxyGraph``."""

    nodes: str
    rho: float
    relation: str | RowMap
    logit_temperature: float | None
    teacher_proxy: str
    student_proxy: str
    proxy_logits: str
    projector: str
    edges: str
    center_edges: bool


class ProxyGraph(nn.Module):
    """Builds the graphs of both sides; owns the projector and the proxies that its options call for.

    Node types: ``sample`` and ``class`` (edges within a network), ``vertex`` (both as one set), ``node`` (samples in
    the space where both networks meet). The parts of separate graphs carry a suffix, as in ``sample:features``.

    Args:
        student_dim, teacher_dim, num_classes: sizes of the features.
        with_nodes, with_edges: whether there are node and edge terms; what neither needs is not created.
        nodes, ..., center_edges: see ``PRGDistiller``.
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_classes: int,
        *,
        with_nodes: bool = True,
        with_edges: bool = True,
        nodes: str = "blocks",
        rho: float = 0.5,
        relation: str | RowMap = "pearson",
        logit_temperature: float | None = None,
        teacher_proxy: str = "own",
        student_proxy: str = "own",
        proxy_logits: str = "own",
        projector: str = "linear",
        edges: str = "class",
        center_edges: bool = False,
    ) -> None:
        super().__init__()
        if logit_temperature is not None and logit_temperature <= 0:
            raise OptionError(f"logit_temperature is a softmax temperature > 0 or None, found {logit_temperature}")
        if logit_temperature is not None and nodes == "fused":
            raise OptionError("nodes='fused' has no logit block and a softmax of its own: leave logit_temperature out")
        if edges not in EDGE_SETS:
            raise unknown("edge set", edges, sorted(EDGE_SETS))
        row_map = ROW_MAPS.resolve(relation)
        self._widths = {"student": student_dim, "teacher": teacher_dim}
        self._num_classes, self._logit_temperature = num_classes, logit_temperature
        parts, make_projector = NODES.get(nodes), PROJECTORS.get(projector)
        self._node_parts = (NODES.get("logits") if projector == "none" else parts)(rho, row_map)
        self._edge_parts = (NODES.get("features") if proxy_logits == "none" else parts)(rho, row_map)
        self._with_nodes, self._normalise = with_nodes, "center" if center_edges else None
        self._edge_set = EDGE_SETS[edges] if with_edges else ()
        sizes = num_classes, student_dim, teacher_dim
        self.proxies = ProxyPair(*sizes, student_proxy, teacher_proxy, proxy_logits, used=self.needs_proxies)
        self._through_projector = student_proxy == "text" and self.needs_proxies
        if self._through_projector and projector == "none":
            raise OptionError("student_proxy='text' meets the teacher's text by a projector: projector='none' has none")
        self.projector: Projector | None = None
        if self._through_projector or (with_nodes and "embedding" in self._node_parts.reads):
            self.projector = make_projector(student_dim, teacher_dim, num_classes)

    @property
    def node_shares(self) -> dict[str, float]:
        """Node types that are compared across the networks -> share of the loss."""
        return {f"node{part}": share for part, share in self._node_parts.shares.items()} if self._with_nodes else {}

    @property
    def edge_shares(self) -> dict[EdgeType, float]:
        """Edge types that are compared -> share of the loss."""
        parts = self._edge_parts.shares.items()
        return {(a + part, "gram", b + part): share for a, b in self._edge_set for part, share in parts}

    @property
    def needs_proxies(self) -> bool:
        """Whether any edge leads to a class proxy, or a node is made with the proxies."""
        used = [self._node_parts] * self._with_nodes + [self._edge_parts] * bool(self._edge_set)
        return self._has_classes or any("proxies" in parts.reads for parts in used)

    @property
    def _has_classes(self) -> bool:
        return any(target != "sample" for _, target in self._edge_set)

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the proxies that the options ask for."""
        return self.proxies(student, teacher) if self.needs_proxies else (student, teacher)

    def build(self, features: Features, side: Side) -> Graph:
        """The graph of one side."""
        features = features.blended()
        self._check(features, side)
        graph = Graph()
        if self._with_nodes:
            self._add_nodes(graph, features, side)
        if self._edge_set:
            self._add_samples_and_classes(graph, features, side)
        for source, relation, target in self.edge_shares:
            graph.connect(source, relation, target, normalise=self._normalise)
        return graph

    def _add_nodes(self, graph: Graph, features: Features, side: Side) -> None:
        embedding = self._common(features.tensor("embedding", "PRG"), side)
        proxies = None
        if "proxies" in self._node_parts.reads:
            proxies = self._common(features.tensor("proxies", "PRG"), self._side_of_proxies(side))
        logits = self._block(features.tensor("logits", "PRG"))
        for part, x in self._node_parts(embedding, logits, proxies).items():
            graph.add(f"node{part}", x)

    def _add_samples_and_classes(self, graph: Graph, features: Features, side: Side) -> None:
        embedding, proxies = features.tensor("embedding", "PRG"), features.proxies
        if self._side_of_proxies(side) != side:  # the teacher's proxies, met in the common space
            embedding, proxies = (
                self._common(embedding, side),
                self._common(features.tensor("proxies", "PRG"), "teacher"),
            )
        logits = self._block(features.tensor("logits", "PRG"))
        samples = self._edge_parts(embedding, logits, proxies)
        classes: Parts = {}
        if self._has_classes:
            classes = self._edge_parts(proxies, self._block(features.tensor("proxy_logits", "PRG")), proxies)
        for part, x in samples.items():
            graph.add(f"sample{part}", x)
        for part, x in classes.items():
            graph.add(f"class{part}", x, "shared")
            held = x if distributed.rank() == 0 else x[:0]  # no rows: learnt proxies get their (zero) gradient here too
            graph.add(f"vertex{part}", torch.cat([held, samples[part]]), shared_nodes=len(x))

    def _side_of_proxies(self, side: Side) -> Side:
        return "teacher" if self._through_projector else side

    def _common(self, embedding: Tensor, side: Side) -> Tensor:
        if self.projector is None:
            return embedding
        projected: Tensor = self.projector(embedding, side)
        return projected.detach() if side == "teacher" else projected  # a teacher's head learns by its own loss only

    def _block(self, logits: Tensor) -> Tensor:
        return logits if self._logit_temperature is None else (logits / self._logit_temperature).softmax(-1)

    def _check(self, features: Features, side: Side) -> None:
        found = features.tensor("embedding", "PRG").shape[-1], features.tensor("logits", "PRG").shape[-1]
        expected = self._widths[side], self._num_classes
        if found != expected:
            raise ShapeError(
                f"{side}: found an embedding of width {found[0]} and {found[1]} logits, this distiller was built for "
                f"{expected[0]} and {expected[1]}: PRGDistiller.between(student, teacher) sizes itself"
            )
