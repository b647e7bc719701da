"""The terms of CRG, each over all levels: vertices, edges, spectra, attention."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from graphkd.distillers.base import Pair, mean_over_batch
from graphkd.distillers.crg.graph import ChannelGraph
from graphkd.distillers.crg.levels import Level
from graphkd.errors import OptionError
from graphkd.graphs.align import align
from graphkd.graphs.alignments import Alignment
from graphkd.graphs.attention import ATTENTION, Attention, Masks, attention_transfer
from graphkd.graphs.channels import VertexLoss, entry_weight
from graphkd.graphs.spectral import Operator, Scaling, SpectralGraph
from graphkd.graphs.spectral_losses import SpectralForm
from graphkd.typing import Float, Tensor

WEIGHED = ("weights", "rows")


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
