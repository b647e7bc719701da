"""Knowledge distillation: the student's softened class scores follow the teacher's."""

from typing import ClassVar, final

from graphkd import ops
from graphkd.checks import same_logits, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.parts import logits, sample_graph
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@tensor_loss
def kd(
    student_logits: Float[Tensor, "b c"], teacher_logits: Float[Tensor, "b c"], temperature: float = 4.0
) -> Float[Tensor, ""]:
    r"""Knowledge distillation: the teacher's softened probabilities.

    .. math:: L = \frac{T^2}{N} \sum_i \mathrm{KL}(\mathrm{softmax}(z^T_i / T) \,\|\, \mathrm{softmax}(z^S_i / T))

    Paper: Hinton, Vinyals, Dean, arXiv 1503.02531; default of HobbitLong/RepDistiller@b84f547.
    Args:
        student_logits, teacher_logits: over the same classes.
        temperature: T > 0; default 4.
    Shapes: (b, c) twice -> scalar.
    Raises: ShapeError for other classes or samples, OptionError for a temperature <= 0.
    Example: ``kd(torch.zeros(1, 2), torch.zeros(1, 2))`` is 0.
    """
    same_logits(student_logits, teacher_logits)
    ops.positive_temperature(temperature)
    return temperature**2 * mean_over_batch(ops.row_kl(student_logits, teacher_logits, temperature))


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

    reads_16_bits: ClassVar[bool] = True
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"kl"})

    def __init__(self, *, weight: float = 0.9, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = ops.positive_temperature(temperature)
        self.terms = self.weighted_terms(kl=(weight, self._kl))

    def build(self, features: Features, side: Side) -> Graph:
        """Samples by their logits."""
        return sample_graph(features, "logits", "KD")

    def _kl(self, pair: Pair) -> Float[Tensor, ""]:
        return kd.over_ranks(*logits(pair, "KD"), self.temperature)
