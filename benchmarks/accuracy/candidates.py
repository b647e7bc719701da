r"""Candidates for PRG's node and edge terms, made to carry weight: they live here until one wins.

All of them look at one estimate of the teacher's feature. With u the scaling to unit length and P the projector,

    f_i = u(f^T_i),   x_i = u(P f^S_i),   t_c = u(the teacher's proxy of class c),
    f~ = f - mu,      x~ = x - mu,        t~_c = t_c - mean of t,       mu = mean of f over the training images.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from graphkd import Distiller, Features, Graph, create_distiller, functional, ops
from graphkd.distillers.base import Pair, mean_over_batch
from graphkd.distillers.parts import logits
from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.distillers.sizes import Sizes
from graphkd.registry import Registry
from graphkd.typing import Side

CANDIDATES: Registry[type[Distiller]] = Registry("candidate")


def node_relation(x: Tensor, f: Tensor, temperature: float = 0.1) -> Tensor:
    r"""(a) How a sample relates to the teacher's samples, mean over i of

    KL(softmax_j cos(f~_i, f~_j) / tau || softmax_j cos(x~_i, f~_j) / tau).

    Args:
        x, f: centred nodes (b, d) of the student and of the teacher.
        temperature: tau.
    """
    return ops.edge_kl(x, f, f, f, "cosine", temperature) / len(x)


def scaled_edges(student: Tensor, teacher: Tensor, scale: float, temperature: float = 4.0) -> Tensor:
    r"""(b) Edges from samples to classes at the scale s of the teacher's logits, mean over i of

    T^2 KL(softmax_c s cos(f_i, t_c) / T || softmax_c s cos(x_i, t_c) / T).

    Args:
        student, teacher: cosines (b, c).
    """
    return functional.kd(scale * student, scale * teacher, temperature)


def class_edges(student: Tensor, teacher: Tensor) -> Tensor:
    r"""(f) Each class ranks the samples as the teacher's does: mean over c of 1 - r(E^S_{:c}, E^T_{:c}).

    Args:
        student, teacher: cosines (b, c).
    """
    return (1 - ops.row_pearson(student.T, teacher.T)).mean()


@dataclass(frozen=True)
class Known:
    """What is known of a teacher before training, from its features of all training images.

    Args:
        mean: mu, of the images' unit features.
        proxies: the classes' unit proxies t.
        class_means: (d) mean of f~ over the images whose pseudo-label is c; 0 where there are none.
        logits, features: all logits, and f, from which :meth:`scale` is found.

    Shapes: mean (d,), proxies and class_means (c, d), logits (n, c), features (n, d).
    """

    mean: Tensor
    proxies: Tensor
    class_means: Tensor
    logits: Tensor
    features: Tensor

    @classmethod
    def of(cls, features: Features) -> Self:
        """From the features of all training images."""
        f, z, w = (features.tensor(part, "a candidate") for part in ("embedding", "logits", "proxies"))
        f, t = ops.unit_rows(f), ops.unit_rows(w)
        mean, said = f.mean(0), torch.nn.functional.one_hot(z.argmax(1), len(t)).to(f)
        means = said.T @ (f - mean) / said.sum(0).clamp_min(1)[:, None]
        return cls(mean, t, means, z, f)

    def augmented(self, beta: float) -> Tensor:
        """(d) Proxies that know where their images are: t~_c + beta times the class's mean of f~."""
        return self.proxies - self.proxies.mean(0) + beta * self.class_means

    def scale(self, nodes: Tensor, proxies: Tensor) -> float:
        """The slope of the teacher's logits over its cosines, rows centred; 100 for CLIP at temperature 0.01."""
        edges = ops.unit_rows(nodes) @ ops.unit_rows(proxies).T
        edges, z = (each - each.mean(1, keepdim=True) for each in (edges, self.logits))
        return ((edges * z).sum() / edges.square().sum()).item()

    def weighted(self, remainder: float) -> Tensor:
        r"""(e) M = a I + (1 - a) Q Q', of which x~ M keeps the span of t~, and a times the rest; Q spans t~."""
        q = torch.linalg.svd((self.proxies - self.proxies.mean(0)).T, full_matrices=False)[0][:, :-1]
        return remainder * torch.eye(len(q)).to(q) + (1 - remainder) * q @ q.T


@final
@CANDIDATES.register("candidate")
class CandidateDistiller(Distiller):
    """PRG's parts with terms that carry weight: CE and KL as in PRG, and those of the candidates that have a weight.

    Args:
        student_dim: width of the student's embedding.
        known: of the teacher.
        ce_weight, kl_weight, kl_temperature: of PRG's terms on the logits.
        match_weight: of mean_i |x_i - f_i|^2, twice PRG's node term by the cosine.
        node_weight, node_temperature: of (a).
        batch_mean: center the nodes of (a) by the mean of the batch's f in place of mu.
        remainder: a of (e), in the nodes of (a); ``None`` leaves the nodes whole.
        edge_weight, edge_temperature: of (b); the temperature of the KL term by default.
        class_weight: of (f).
        beta: of (d), for (b) and (f), whose nodes are then the centred ones; ``None``: the proxies t and the nodes f.
    """

    global_batch: ClassVar[str] = "undefined: candidates run in one process"
    mean: Tensor
    proxies: Tensor
    weighting: Tensor

    def __init__(
        self,
        student_dim: int,
        known: Known,
        *,
        ce_weight: float = 1.0,
        kl_weight: float = 1.0,
        kl_temperature: float = 4.0,
        match_weight: float = 0.0,
        node_weight: float = 0.0,
        node_temperature: float = 0.1,
        batch_mean: bool = False,
        remainder: float | None = None,
        edge_weight: float = 0.0,
        edge_temperature: float | None = None,
        class_weight: float = 0.0,
        beta: float | None = None,
    ) -> None:
        super().__init__()
        self.kl_temperature, self.node_temperature = kl_temperature, node_temperature
        self.edge_temperature = kl_temperature if edge_temperature is None else edge_temperature
        self.batch_mean = batch_mean
        self.centred, self.labels = beta is not None, PseudoLabels()
        proxies = known.proxies if beta is None else known.augmented(beta)
        nodes = known.features if beta is None else known.features - known.mean
        self.scale = known.scale(nodes, proxies)
        self.register_buffer("mean", known.mean)
        self.register_buffer("proxies", ops.unit_rows(proxies))
        self.register_buffer("weighting", None if remainder is None else known.weighted(remainder))
        self.projector = nn.Linear(student_dim, len(known.mean))
        self.terms = self.weighted_terms(
            ce=(ce_weight, self._ce),
            kl=(kl_weight, self._kl),
            match=(match_weight, self._match),
            node=(node_weight, self._node),
            edge=(edge_weight, self._edge),
            column=(class_weight, self._column),
        )

    @classmethod
    def between(cls, student: Any, teacher: Any, **options: Any) -> Self:
        """Sized by both, with what is known of the teacher."""
        cls.check_options(options)
        width = Sizes.of(student).embedding_dim
        assert width is not None
        return cls(width, Known.of(teacher.features), **options)

    def build(self, features: Features, side: Side) -> Graph:
        """Samples as unit features of the teacher's space, beside them the centred ones, and their edges to classes."""
        embedding = features.tensor("embedding", "a candidate")
        x = ops.unit_rows(self.projector(embedding) if side == "student" else embedding)
        graph = Graph().add("sample", x).add("centred", x - self.mean)
        return graph.add("class", self.proxies, "shared").connect(self.ends, "cosine", "class")

    @property
    def ends(self) -> str:
        """The nodes that have edges to classes."""
        return "centred" if self.centred else "sample"

    def _ce(self, pair: Pair) -> Tensor:
        return mean_over_batch(self.labels(pair.student_features, pair.teacher_features, pair.target))

    def _kl(self, pair: Pair) -> Tensor:
        return functional.kd(*logits(pair, "a candidate"), self.kl_temperature)

    def _match(self, pair: Pair) -> Tensor:
        return (pair.student["sample"].x - pair.teacher["sample"].x).square().sum(1).mean()

    def _node(self, pair: Pair) -> Tensor:
        x, f = pair.student["sample"].x, pair.teacher["sample"].x
        mean = f.mean(0) if self.batch_mean else self.mean
        x, f = x - mean, f - mean
        if self.weighting is not None:
            x, f = x @ self.weighting, f @ self.weighting
        return node_relation(x, f, self.node_temperature)

    def _edges(self, pair: Pair) -> tuple[Tensor, Tensor]:
        student, teacher = (graph.edges(self.ends, "cosine", "class").dense() for graph in (pair.student, pair.teacher))
        return student, teacher

    def _edge(self, pair: Pair) -> Tensor:
        return scaled_edges(*pair.once(self, self._edges), self.scale, self.edge_temperature)

    def _column(self, pair: Pair) -> Tensor:
        return class_edges(*pair.once(self, self._edges))


def create(name: str, student: Any, teacher: Any, **options: Any) -> Distiller:
    """A candidate, or a method of the library."""
    if name in CANDIDATES:
        return CANDIDATES.get(name).between(student, teacher, **options)
    return create_distiller(name, student, teacher, **options)
