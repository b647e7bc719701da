"""Probabilistic knowledge transfer: each sample's distribution over the others follows the teacher's."""

from typing import ClassVar, Final, final

from graphkd import ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import sample_graph
from graphkd.features import Features
from graphkd.functional.samples import pkt_divergence, pkt_rows
from graphkd.graphs.align import edge_nodes
from graphkd.graphs.alignments import MSE, Alignment
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor

DIVERGENCE: Final = Alignment("pkt", pkt_divergence, MSE.outer)


def affinity(x: Float[Tensor, "*b n d"], y: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    r"""Cosine moved to [0, 1], :math:`(\langle \hat x_i, \hat y_j \rangle + 1)/2`, with 1e-7 beside each length."""
    rows = pkt_rows(x)
    return ((ops.gram(rows, rows if x is y else pkt_rows(y)) + 1) / 2).clamp_min(0)  # rounding may pass -1


affinity.pairwise = True  # type: ignore[attr-defined]


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

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"divergence"})

    def __init__(self, *, weight: float = 30000.0) -> None:
        super().__init__()
        self.terms = self.table(divergence=(weight, _divergence))

    def build(self, features: Features, side: Side) -> Graph:
        """Samples and their affinities, as distributions."""
        return sample_graph(features, "embedding", "PKT").connect("sample", affinity, "sample", normalise="sum")


def _divergence(pair: Pair) -> Float[Tensor, ""]:
    student, teacher = (graph.edges("sample", "affinity", "sample") for graph in (pair.student, pair.teacher))
    value = ops.edge_pkt(*edge_nodes(student, teacher))
    return DIVERGENCE.reduce(value, *student.shape)
