"""Knowledge distillation: the student's softened class scores follow the teacher's."""

from typing import ClassVar, final

from graphkd.distillers.base import DISTILLERS, Distiller, Pair
from graphkd.distillers.parts import same_samples, sample_graph
from graphkd.features import Features
from graphkd.graphs.alignments import kl
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@final
@DISTILLERS.register("kd")
class KDDistiller(Distiller):
    r"""Match the softened class scores of each sample.

    .. math:: L = w\, \frac{T^2}{N} \sum_i
        \mathrm{KL}\big(\mathrm{softmax}(z^T_i / T)\,\|\,\mathrm{softmax}(z^S_i / T)\big)

    As a graph: the edges from a sample to the classes are its logits, compared by their row softmax.

    Paper: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    Args:
        weight: of the term; default 0.9, beside a cross-entropy of weight 0.1.
        temperature: softmax temperature, > 0; default 4.
    Shapes: logits (b, c) on both sides.
    Raises: OptionError for a temperature <= 0, ShapeError for different numbers of classes.
    Example: ``KDDistiller(temperature=2.0)(student(images), teacher(images)).total``
    Differs from the official code: none was published; the form of RepDistiller is followed (HobbitLong/RepDistiller
    @b84f547).
    """

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"kl"})

    def __init__(self, *, weight: float = 0.9, temperature: float = 4.0) -> None:
        super().__init__()
        self.alignment = kl(temperature)
        self.terms = self.table(kl=(weight * temperature**2, self._kl))

    def build(self, features: Features, side: Side) -> Graph:
        """Samples by their logits."""
        return sample_graph(features, "logits", "KD")

    def _kl(self, pair: Pair) -> Float[Tensor, ""]:
        return self.alignment(*same_samples(pair, "logits"))
