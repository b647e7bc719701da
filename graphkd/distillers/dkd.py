"""Decoupled knowledge distillation: the target class and the other classes as two terms."""

from typing import ClassVar, final

from graphkd import ops
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.parts import same_samples, sample_graph
from graphkd.features import Features
from graphkd.functional.logits import dkd_parts
from graphkd.graphs.graph import Graph
from graphkd.typing import Float, Side, Tensor


@final
@DISTILLERS.register("dkd")
class DKDDistiller(Distiller):
    r"""Match how sure the networks are of the label, and apart from it how they rank the other classes.

    .. math::
        L = \alpha \frac{T^2}{N} \sum_i \mathrm{KL}(b^T_i \| b^S_i)
          + \beta \frac{T^2}{N} \sum_i \mathrm{KL}(q^T_i \| q^S_i),

    with :math:`p = \mathrm{softmax}(z/T)`, :math:`b = (p_y, 1 - p_y)` and q the softmax over the classes other than y.

    Paper: Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", CVPR 2022.
    Args:
        alpha: weight of the target term; default 1.
        beta: weight of the non-target term; default 8.
        temperature: softmax temperature, > 0; default 4.
    Shapes: logits (b, c) with c >= 2, target (b,) with labels in [0, c), below 0 for a sample without one: it leaves
        both means.
    Raises: OptionError; ShapeError for other classes or a single one; MissingFeatureError without ``target``;
        DataError for a label of c or more (on a GPU the terms are NaN).
    Example: ``DKDDistiller()(student(images), teacher(images), target=labels).total``
    Differs from the official code (megvii-research/mdistiller@a08d46f): there the label is masked by -1000 and the
    logarithm taken of a probability that underflows; here logarithms come from logsumexp and stay finite. The warm-up
    min(epoch / 20, 1) is the training loop's.
    """

    zero_at_teacher: ClassVar[frozenset[str]] = frozenset({"target", "non_target"})
    needs: ClassVar[frozenset[str]] = frozenset({"target"})

    def __init__(self, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = ops.positive_temperature(temperature)
        self.terms = self.table(target=(alpha, self._target_term), non_target=(beta, self._non_target_term))

    def build(self, features: Features, side: Side) -> Graph:
        """Samples by their logits."""
        return sample_graph(features, "logits", "DKD")

    def _target_term(self, pair: Pair) -> Float[Tensor, ""]:
        part, _, counted = self._parts(pair)
        return mean_over_batch(part, counted)

    def _non_target_term(self, pair: Pair) -> Float[Tensor, ""]:
        _, part, counted = self._parts(pair)
        return mean_over_batch(part, counted)

    def _parts(self, pair: Pair) -> tuple[Float[Tensor, " b"], ...]:
        target = pair.target
        assert target is not None
        return pair.once(self, lambda pair: dkd_parts(*same_samples(pair, "logits"), target, self.temperature))
