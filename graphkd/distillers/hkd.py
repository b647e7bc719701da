"""Holistic knowledge distillation: contrast of samples, and of samples smoothed over a graph of their predictions."""

from dataclasses import replace
from typing import ClassVar, Final, final

import torch
from torch import nn

from graphkd import distributed, ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import sample_graph
from graphkd.errors import DataError, OptionError
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Int, Side, Tensor

_SIDES: Final = (("student", "teacher"), ("teacher", "student"))


@torch.library.custom_op("graphkd::recall", mutates_args=())
def recall(memory: Tensor, index: Tensor) -> Tensor:
    """Rows of a memory. An op of its own, because a compiled backward pass may compute plain indexing once more, and
    would then read what the memory has become in the meantime."""
    if not index.is_cuda and len(index) and (index.max() >= len(memory) or index.min() < 0):  # a GPU says so itself
        raise DataError(
            f"HKD's memory has a place for each of num_samples={len(memory)} samples, found index {int(index.max())} "
            f"(least {int(index.min())}): num_samples is the size of the training set, not of the batch"
        )
    return memory[index]


@recall.register_fake
def _(memory: Tensor, index: Tensor) -> Tensor:
    return memory.new_empty(*index.shape, memory.shape[1])


def _smooth(old: Tensor, new: Tensor, share: float) -> Tensor:
    return ops.unit_rows(share * old.to(new) + (1 - share) * new)


@final
@DISTILLERS.register("hkd")
class HKDDistiller(Distiller):
    r"""Contrast each network's samples, and its graph of samples, with a memory of the other network.

    .. math::
        L = \sum_{(A, B)} \ell\big(e^A, m^B\big) + w\, \ell\big(h^A, u(0.75\, m^B + 0.25\, h^B)\big), \quad
        \ell(x, y) = -\mathrm{mean}_i \log \frac{s(x_i, y_i)}{s(x_i, y_i) + \sum_j s(x_i, m^B_j)}, \quad
        s(x, y) = e^{\langle x, y \rangle / \tau}

    over (student, teacher) and (teacher, student), with :math:`e = u(W f)` of unit length,
    :math:`h = u(\mathrm{TAGConv}(e))` on the graph of the k samples whose predictions are nearest, and m a memory of e
    over the data set.

    Paper: Zhou et al., "Distilling Holistic Knowledge with Graph Neural Networks", ICCV 2021.
    Args:
        student_dim, teacher_dim: widths of the embeddings.
        num_samples: size of the data set; ``index`` lies in [0, num_samples).
        weight: of both terms; default 3.
        graph_weight: w; default 1. 0 removes the graph.
        width: of e and h; default 128.
        neighbors: k, a sample itself among them; default 8. A batch of fewer samples skips the graph.
        negatives: memories that each batch is contrasted with; default 16384, all where there are fewer.
        temperature: tau, > 0; default 0.07.
        momentum: share of the old memory in an update, in [0, 1]; default 0.9.
        seed: of the memory's start and of the order of negatives; default 0.
    Shapes: embedding (b, d), logits (b, c), index (b,).
    Raises: OptionError; MissingFeatureError without ``index``; DataError for one outside [0, num_samples).
    Example: ``HKDDistiller(512, 768, len(dataset))(features, teacher_features, index=batch.index).total``
    Differs from the official code (wyc-ruiker/HKD): negatives are one walk through the other network's memory for the
    whole batch, in a seeded order and never the sample itself (there drawn for each sample, from the network's own
    memory); small batches update the memory too. Both linear layers and graph convolutions are trained, as there.
    """

    required_inputs: ClassVar[frozenset[str]] = frozenset({"index"})
    sized_by: ClassVar[tuple[str, ...]] = ("student_dim", "teacher_dim", "num_samples")

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_samples: int,
        *,
        weight: float = 3.0,
        graph_weight: float = 1.0,
        width: int = 128,
        neighbors: int = 8,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.9,
        seed: int = 0,
    ) -> None:
        from torch_geometric.nn import TAGConv

        super().__init__()
        if min(neighbors, negatives, num_samples) < 1 or temperature <= 0 or not 0 <= momentum <= 1:
            raise OptionError(
                "neighbors, negatives and num_samples are >= 1, temperature > 0, momentum in [0, 1], found "
                f"{neighbors}, {negatives}, {num_samples}, {temperature} and {momentum}"
            )
        self.neighbors, self.temperature, self.momentum = neighbors, temperature, momentum
        self.negatives = min(negatives, num_samples)
        widths = {"student": student_dim, "teacher": teacher_dim}
        self.embed = nn.ModuleDict({side: nn.Linear(dim, width) for side, dim in widths.items()})
        self.convolve = nn.ModuleDict({side: TAGConv(width, width, K=1) for side in widths if graph_weight})
        generator = torch.Generator().manual_seed(seed)
        for side in widths:
            start = torch.rand(num_samples, width, generator=generator) * 2 - 1
            self.register_buffer(f"memory_{side}", start * (3 / width) ** 0.5)  # lengths of about 1
        self.register_buffer("order", torch.randperm(num_samples, generator=generator))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))
        self.terms = self.weighted_terms(instance=(weight, self._instance), graph=(weight * graph_weight, self._graph))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with unit vectors as embeddings; here, and not in ``build``, both layers get their gradient."""
        return self._embedded(student, "student"), self._embedded(teacher, "teacher")

    def build(self, features: Features, side: Side) -> Graph:
        """Samples by e, and by their predictions."""
        graph = sample_graph(features, "embedding", "HKD")
        return graph.add("prediction", features.tensor("logits", "HKD").detach().softmax(-1))

    @torch.no_grad()
    def finish(self, pair: Pair) -> None:
        """Remember e of this batch, of all ranks."""
        if not self.training:
            return
        index = self._index(pair)
        for side, _ in _SIDES:
            memory, nodes = self.get_buffer(f"memory_{side}"), self._everyone(pair, side, "sample")
            memory[index] = _smooth(recall(memory, index), nodes, self.momentum).to(memory)
        self.get_buffer("cursor").add_(self.negatives).remainder_(len(self.get_buffer("order")))

    def _instance(self, pair: Pair) -> Float[Tensor, ""]:
        index = self._index(pair)
        nodes = {side: self._everyone(pair, side, "sample") for side, _ in _SIDES}
        return self._both_ways(nodes, {side: recall(self.get_buffer(f"memory_{side}"), index) for side in nodes}, index)

    def _graph(self, pair: Pair) -> Float[Tensor, ""]:
        index, nodes, smooth = self._index(pair), {}, {}
        if len(index) < self.neighbors:
            return self._everyone(pair, "student", "sample").new_zeros(())
        for side, _ in _SIDES:
            sample, prediction = (self._everyone(pair, side, kind) for kind in ("sample", "prediction"))
            mixed = ops.unit_rows(self.convolve[side](sample, self._neighborhood(prediction)))
            nodes[side] = mixed + 0 * prediction.sum()  # a NaN has no nearest samples: it goes out
            smooth[side] = _smooth(recall(self.get_buffer(f"memory_{side}"), index), nodes[side].detach(), 0.75)
        return self._both_ways(nodes, smooth, index)

    def _neighborhood(self, prediction: Float[Tensor, "n c"]) -> Int[Tensor, "2 e"]:
        """Edges to each sample from itself and from those whose predictions are nearest, k in all."""
        graph = Graph().add("prediction", prediction).connect("prediction", "cosine", "prediction")
        edges = graph.to_pyg(max(self.neighbors - 1, 1))["prediction", "cosine", "prediction"].edge_index
        others = edges[:, : len(prediction) * (self.neighbors - 1)]
        return torch.cat([others, torch.arange(len(prediction), device=edges.device).expand(2, -1)], 1)

    def _both_ways(self, nodes: dict[str, Tensor], own: dict[str, Tensor], index: Tensor) -> Float[Tensor, ""]:
        return torch.stack([self._contrast(nodes[a], own[b], index, b) for a, b in _SIDES]).sum()

    def _contrast(self, x: Tensor, positive: Tensor, index: Int[Tensor, " b"], other: str) -> Float[Tensor, ""]:
        order = self.get_buffer("order")
        steps = torch.arange(self.negatives, device=order.device)
        chosen = order[(self.get_buffer("cursor") + steps) % len(order)]
        scores = ops.gram(x, recall(self.get_buffer(f"memory_{other}"), chosen).to(x))
        scores = scores.masked_fill(index.unsqueeze(1) == chosen, -torch.inf)
        own = (x * positive.to(x)).sum(-1, keepdim=True)
        return -(torch.cat([own, scores], 1) / self.temperature).log_softmax(-1)[:, 0].mean()

    def _embedded(self, features: Features, side: str) -> Features:
        features = features.blended()
        return replace(features, embedding=ops.unit_rows(self.embed[side](features.tensor("embedding", "HKD"))))

    def _index(self, pair: Pair) -> Int[Tensor, " n"]:
        assert pair.index is not None
        index = pair.index
        return pair.once((self, "index"), lambda pair: distributed.gather(index, list(pair.sizes)))

    def _everyone(self, pair: Pair, side: str, kind: str) -> Float[Tensor, "n w"]:
        graph = pair.student if side == "student" else pair.teacher
        return pair.once((self, side, kind), lambda pair: distributed.gather(graph[kind].x, list(pair.sizes)))
