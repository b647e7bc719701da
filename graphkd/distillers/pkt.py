"""Probabilistic knowledge transfer: each sample's distribution over the others follows the teacher's."""

from typing import ClassVar, Final, final

import torch

from graphkd import ops
from graphkd.checks import same_samples, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import sample_graph
from graphkd.features import Features
from graphkd.graphs.align import edge_nodes
from graphkd.graphs.alignments import MSE
from graphkd.graphs.edges import Edges
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor

_EPS: Final = 1e-7


def affinity(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    r"""Cosine moved to [0, 1], :math:`(\langle \hat x_i, \hat y_j \rangle + 1)/2`, with 1e-7 beside each length."""
    rows = _rows(x)
    return ((ops.gram(rows, rows if x is y else _rows(y)) + 1) / 2).clamp_min(0)  # rounding may pass -1


affinity.pairwise = True  # type: ignore[attr-defined]


def _rows(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows divided by their length + 1e-7, as published; a zero row stays zero, without gradient."""
    length = ops.safe_sqrt(x.square().sum(-1, keepdim=True))
    return torch.where(length == 0, 0.0, x / (length + _EPS))


@tensor_loss
def pkt(student: Float[Tensor, "b d"], teacher: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
    r"""Probabilistic knowledge transfer: each sample's similarities as a distribution over the batch.

    .. math:: L = \frac{1}{N^2} \sum_{ij} P^T_{ij} \log \frac{P^T_{ij} + \epsilon}{P^S_{ij} + \epsilon}, \qquad
              P_{ij} = \frac{1 + \cos(f_i, f_j)}{\sum_k 1 + \cos(f_i, f_k)}, \quad \epsilon = 10^{-7}

    Paper: Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018, eqs. 3-8;
    HobbitLong/RepDistiller@b84f547.
    Args:
        student, teacher: embeddings; the widths may differ.
    Shapes: (b, d), (b, e) -> scalar.
    Raises: ShapeError for other samples.
    Example: ``pkt(2 * x, x)`` is 0 up to the eps.
    Differs from the official code: a zero row gets no gradient, and a NaN is not replaced by 0.
    """
    same_samples(student, teacher, 2)
    return _divergence(Edges(student, student, affinity), Edges(teacher, teacher, affinity))


def _divergence(student: Edges, teacher: Edges) -> Float[Tensor, ""]:
    return MSE.reduce(ops.edge_pkt(*edge_nodes(student, teacher)), *student.shape)


@final
@DISTILLERS.register("pkt")
class PKTDistiller(Distiller):
    r"""Match the distribution of each sample over all samples.

    .. math::
        L = w\, \mathrm{mean}_{ij}\; P^T_{ij} \log \frac{P^T_{ij} + 10^{-7}}{P^S_{ij} + 10^{-7}}, \quad
        P_{ij} = K_{ij} / \textstyle\sum_j K_{ij}, \quad K_{ij} = (\cos(f_i, f_j) + 1) / 2

    Paper: Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018.
    Args:
        weight: default 30000.
    Shapes: embedding (b, d) and (b, any).
    Raises: MissingFeatureError without embeddings.
    Example: ``PKTDistiller()(student(images), teacher(images)).total``
    Differs from the official code (the form of HobbitLong/RepDistiller@b84f547): a zero sample has no gradient (there
    NaN), and a NaN that comes in goes out (there it becomes 0).
    """

    reads_16_bits: ClassVar[bool] = True
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"divergence"})

    def __init__(self, *, weight: float = 30000.0) -> None:
        super().__init__()
        self.terms = self.weighted_terms(divergence=(weight, _term))

    def build(self, features: Features, side: Side) -> Graph:
        """Samples and their affinities, as distributions."""
        return sample_graph(features, "embedding", "PKT").connect("sample", affinity, "sample", normalise="sum")


def _term(pair: Pair) -> Float[Tensor, ""]:
    return _divergence(*(graph.edges("sample", "affinity", "sample") for graph in (pair.student, pair.teacher)))
