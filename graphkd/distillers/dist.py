"""DIST: the student's class probabilities correlate with the teacher's, by sample and by class."""

from typing import ClassVar, final

from graphkd import ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.parts import same_samples, sample_graph
from graphkd.distributed import grams
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor

_EPS = 1e-8  # of the published loss, added to the product of both lengths


@final
@DISTILLERS.register("dist")
class DISTDistiller(Distiller):
    r"""Correlate the class probabilities of each sample, and of each class over the batch.

    .. math::
        L = \tau^2 \Big[\beta \big(1 - \mathrm{mean}_i\, r(Y^S_{i\cdot}, Y^T_{i\cdot})\big)
          + \gamma \big(1 - \mathrm{mean}_c\, r(Y^S_{\cdot c}, Y^T_{\cdot c})\big)\Big], \quad
        Y = \mathrm{softmax}(z / \tau)

    Paper: Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022.
    Args:
        beta: weight between the classes of a sample; default 1.
        gamma: weight between the samples of a class; default 1.
        temperature: tau, softmax temperature, > 0; default 1.
    Shapes: logits (b, c) on both sides.
    Raises: OptionError for a temperature <= 0, ShapeError for different numbers of classes.
    Example: ``DISTDistiller(temperature=4.0)(student(images), teacher(images)).total``
    Differs from the official code (hunto/image_classification_sota@6f7a70a): the columns run over the samples of all
    ranks. The factor tau^2 is in the code, not in the paper; 1e-8 beside the lengths is the code's.
    """

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset()  # 1e-8 beside the lengths leaves a rest

    def __init__(self, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature, square = ops.positive_temperature(temperature), temperature**2
        self.terms = self.table(inter=(beta * square, self._inter), intra=(gamma * square, self._intra))

    def build(self, features: Features, side: Side) -> Graph:
        """Samples by their class probabilities."""
        graph = sample_graph(features, "logits", "DIST")
        return graph.add("sample", (graph["sample"].x / self.temperature).softmax(-1))

    def _inter(self, pair: Pair) -> Float[Tensor, ""]:
        student, teacher = same_samples(pair, "logits")
        return mean_over_batch(1 - ops.damped_row_pearson(student, teacher, _EPS))

    def _intra(self, pair: Pair) -> Float[Tensor, ""]:
        student, teacher = same_samples(pair, "logits")
        return (1 - grams.damped_column_pearson(student, teacher, _EPS, sum(pair.sizes))).mean()
