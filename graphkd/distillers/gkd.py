"""Graph knowledge distillation (Lassance et al.): the normalised graph of the samples follows the teacher's."""

from typing import ClassVar, Final, final

import torch

from graphkd import distributed
from graphkd.checks import same_samples, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import flat_graph, maps_of, matched
from graphkd.distillers.sizes import MapPairs
from graphkd.errors import MissingFeatureError, OptionError
from graphkd.features import Features
from graphkd.graphs.edges import Edges
from graphkd.graphs.graph import Graph
from graphkd.graphs.relations import cosine, itself
from graphkd.registry import unknown
from graphkd.typing import Bool, Float, Side, Tensor

LEAST_DEGREE: Final = 0.1


@tensor_loss
def gkd(
    student: Float[Tensor, "b *any"], teacher: Float[Tensor, "b *other"], power: int = 1, neighbors: int | None = None
) -> Float[Tensor, ""]:
    r"""Graph KD of Lassance et al.: powers of the normalised cosine graph of one block's outputs.

    .. math:: L = \sum_{ij} ((A^S)^p - (A^T)^p)_{ij}^2, \qquad A = D^{-1/2} C D^{-1/2}, \quad
              C_{ij} = \cos(f_i, f_j), C_{ii} = 0

    Paper: Lassance et al., "Deep geometric knowledge distillation with graphs", arXiv 1911.03080;
    cadurosar/graph_kd@4e52ed2. The weight 25 and the mean over blocks are the caller's.
    Args:
        student, teacher: outputs of one block, flattened here.
        power: of the adjacency, p >= 1; default 1.
        neighbors: keep the teacher's k largest entries of each row, and their mirror images, on both sides;
            default all.
    Shapes: (b, ...), (b, ...) -> scalar.
    Raises: ShapeError for other samples, OptionError for power < 1 or neighbors < 1.
    Example: ``gkd(2 * x, x)`` is 0.
    Differs from the official code: a degree below 0.1 counts as 0.1 here. Cosines have signs, so a degree may be 0 or
    less, and the official code then gives infinity or NaN.
    """
    same_samples(student, teacher)
    _check(power, neighbors)
    ours, theirs = (Edges(x, x, cosine) for x in (student.flatten(1), teacher.flatten(1)))
    return _distance(ours, theirs, power, neighbors, [len(student)])


def _check(power: int, neighbors: int | None) -> None:
    if power < 1 or (neighbors is not None and neighbors < 1):
        raise OptionError(f"power and neighbors are whole numbers >= 1, found {power} and {neighbors}")


def _distance(
    student: Edges,
    teacher: Edges,
    power: int,
    neighbors: int | None,
    sizes: list[int],
    allowed: Bool[Tensor, "n m"] | None = None,
) -> Float[Tensor, ""]:
    """The squared difference of this rank's rows of both powers, of the edges that are kept and allowed."""
    ours, theirs = _normalised(student, sizes), _normalised(teacher, sizes)
    masks = [_strongest(theirs, neighbors, sizes), allowed]
    for mask in masks:
        if mask is not None:
            ours, theirs = torch.where(mask, ours, 0.0), torch.where(mask, theirs, 0.0)
    return (_power(ours, power, sizes) - _power(theirs, power, sizes)).square().sum()


def _normalised(edges: Edges, sizes: list[int]) -> Float[Tensor, "n m"]:
    """This rank's rows of the adjacency matrix, without self-loops, over the roots of both degrees."""
    cosines = edges.dense().masked_fill(itself(edges.source, edges.targets, edges.offset), 0.0)
    scale = cosines.sum(-1).clamp_min(LEAST_DEGREE).rsqrt()
    return scale.unsqueeze(1) * cosines * distributed.gather(scale, sizes)


def _strongest(graph: Float[Tensor, "n m"], k: int | None, sizes: list[int]) -> Bool[Tensor, "n m"] | None:
    """The k strongest edges of each sample of all ranks, and their reverses; ``None`` for all."""
    if k is None or k >= graph.shape[1]:
        return None
    strongest = torch.zeros_like(graph).scatter(1, graph.topk(k, dim=1).indices, 1.0)
    start = distributed.first_row(sizes)
    reverse = distributed.gather(strongest, sizes)[:, start : start + len(graph)].mT
    return (strongest + reverse) > 0


def _power(rows: Float[Tensor, "n m"], power: int, sizes: list[int]) -> Float[Tensor, "n m"]:
    result = rows
    for _ in range(power - 1):
        result = result @ distributed.gather(rows, sizes)
    return result


@final
@DISTILLERS.register("gkd")
class GKDDistiller(Distiller):
    r"""Match powers of the normalised adjacency matrix of the samples, in several layers.

    .. math:: L = w\, \mathrm{mean}_l \sum_{ij} \big((A^S)^p - (A^T)^p\big)_{ij}^2, \quad
        A = D^{-1/2} C D^{-1/2}, \quad C_{ij} = \cos(f_i, f_j), \; C_{ii} = 0

    Paper: Lassance et al., "Deep geometric knowledge distillation with graphs", ICASSP 2020 (arXiv 1911.03080).
    Args:
        weight: lambda; default 25.
        power: p >= 1; default 1.
        neighbors: k, the teacher's strongest edges of each sample (and their reverses) that both sides keep; default
            all.
        among: ``"all"`` (default), or ``"same"`` or ``"other"``: edges within or between the classes of ``target``; a
            sample whose label is below 0 has no such edge.
        maps: student's map -> teacher's map; default: all, in order.
    Shapes: maps (b, c, h, w), flattened, of any size on either side; N x N edges over the samples of all ranks.
    Raises: OptionError, UnknownNameError; MissingFeatureError without ``target`` where ``among`` needs it.
    Example: ``GKDDistiller(power=2)(student(images), teacher(images)).total``
    Differs from the official code (cadurosar/graph_kd@4e52ed2): a degree below 0.1 counts as 0.1 here. Cosines have
    signs, so a degree may be 0 or less, and the official code then gives infinity or NaN.
    """

    relates_maps = True
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"adjacency"})

    def __init__(
        self,
        *,
        weight: float = 25.0,
        power: int = 1,
        neighbors: int | None = None,
        among: str = "all",
        maps: MapPairs = None,
    ) -> None:
        super().__init__()
        _check(power, neighbors)
        if among not in ("all", "same", "other"):
            raise unknown("set of edges", among, ["all", "other", "same"])
        self.power, self.neighbors, self.among, self.pairs = power, neighbors, among, maps
        self.terms = self.weighted_terms(adjacency=(weight, self._adjacency))

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records with the compared maps."""
        return matched(student, teacher, self.pairs, "maps", "GKD")

    def build(self, features: Features, side: Side) -> Graph:
        """Samples and their cosines, one node type for each map."""
        graph = flat_graph(maps_of(features))
        for name in graph.node_types:
            graph.connect(name, "cosine", name)
        return graph

    def _adjacency(self, pair: Pair) -> Float[Tensor, ""]:
        sizes, allowed = list(pair.sizes), self._allowed(pair)
        distances = [
            _distance(pair.student.edges(*each), pair.teacher.edges(*each), self.power, self.neighbors, sizes, allowed)
            for each in pair.student.edge_types
        ]
        return distributed.total(torch.stack(distances).mean())

    def _allowed(self, pair: Pair) -> Bool[Tensor, "n m"] | None:
        if self.among == "all":
            return None
        if pair.target is None:
            raise MissingFeatureError(f"GKD with among={self.among!r} needs target=...: give it beside the features")
        mine, everyone = pair.target.unsqueeze(1), distributed.gather(pair.target, list(pair.sizes))
        known = (mine >= 0) & (everyone >= 0)  # no label: neither within a class nor between two
        return known & (mine == everyone if self.among == "same" else mine != everyone)
