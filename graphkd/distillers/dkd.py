"""Decoupled knowledge distillation: the target class and the other classes as two terms."""

from typing import ClassVar, final

import torch

from graphkd import ops
from graphkd.checks import same_logits, tensor_loss
from graphkd.distillers.base import DISTILLERS, Distiller, Pair, mean_over_batch
from graphkd.distillers.parts import logits, sample_graph
from graphkd.errors import ShapeError
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.losses import labelled, only_counted
from graphkd.typing import Float, Int, Side, Tensor


@tensor_loss
def dkd(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    target: Int[Tensor, " b"],
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    r"""Decoupled knowledge distillation: the label's share and the other classes apart.

    .. math:: L = \alpha\, \mathrm{TCKD} + \beta\, \mathrm{NCKD}

    Paper: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, eq. 7; megvii-research/mdistiller@a08d46f.
    Args:
        student_logits, teacher_logits: over the same classes, at least 2.
        target: labels in [0, c); a sample whose label is below 0 has none and leaves the mean.
        alpha, beta: weights of :func:`dkd_target` and :func:`dkd_non_target`; defaults 1 and 8.
        temperature: T > 0; default 4.
    Shapes: (b, c), (b, c), (b,) -> scalar.
    Raises: ShapeError for other classes, samples or a single class; OptionError for a temperature <= 0; DataError for
        a label of c or more (on a GPU the loss is NaN).
    Example: ``dkd(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))`` is 0.
    Differs from the official code: it hides the label by -1000 and takes the logarithm of a probability, which is NaN
    from a logit gap of some 420 on; here the label is left out of the log-softmax and no underflowed probability is
    read. The official warm-up belongs to the training loop.
    """
    target_part, other_part, counted = dkd_parts(student_logits, teacher_logits, target, temperature)
    return alpha * mean_over_batch(target_part, counted) + beta * mean_over_batch(other_part, counted)


@tensor_loss
def dkd_target(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    target: Int[Tensor, " b"],
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    r"""DKD's target part: the share of the label against all others.

    .. math:: \mathrm{TCKD} = \frac{T^2}{N} \sum_i \mathrm{KL}(b^T_i \,\|\, b^S_i), \qquad b = [p_y, 1 - p_y]

    Args, Shapes, Raises: as of :func:`dkd`.
    Example: ``dkd_target(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))`` is 0.
    """
    part, _, counted = dkd_parts(student_logits, teacher_logits, target, temperature)
    return mean_over_batch(part, counted)


@tensor_loss
def dkd_non_target(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    target: Int[Tensor, " b"],
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    r"""DKD's other part: the distribution over the classes that are not the label; exactly 0 for two classes.

    .. math:: \mathrm{NCKD} = \frac{T^2}{N} \sum_i \mathrm{KL}(q^T_i \,\|\, q^S_i), \qquad
              q = \mathrm{softmax}_{c \ne y}(z / T)

    Args, Shapes, Raises: as of :func:`dkd`.
    Example: ``dkd_non_target(torch.randn(4, 2), torch.randn(4, 2), torch.zeros(4, dtype=torch.long))`` is 0.
    """
    _, part, counted = dkd_parts(student_logits, teacher_logits, target, temperature)
    return mean_over_batch(part, counted)


def dkd_parts(
    student_logits: Float[Tensor, "b c"],
    teacher_logits: Float[Tensor, "b c"],
    target: Int[Tensor, " b"],
    temperature: float = 4.0,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Both parts of DKD for each sample, times T^2, in the precision given, and 1 for each sample with a label.

    Shapes, Raises: as of :func:`dkd`.
    """
    same_logits(student_logits, teacher_logits)
    target, counted = labelled(target, student_logits)
    ops.positive_temperature(temperature)
    if student_logits.shape[1] < 2:
        raise ShapeError(f"DKD splits at least 2 classes, found logits {tuple(student_logits.shape)}: use kd")
    teacher_logits = teacher_logits.masked_fill((counted == 0).unsqueeze(1), 0.0)  # 0 times a NaN is one
    target_s, others_s = _split(student_logits / temperature, target)
    target_t, others_t = _split(teacher_logits / temperature, target)
    alone = target_t[:, 1] <= torch.finfo(target_t.dtype).min  # the teacher masks all other classes: nothing to compare
    target_part = temperature**2 * ops.row_kl(target_s, target_t)
    other_part = temperature**2 * ops.row_kl(others_s, others_t).masked_fill(alone, 0.0)
    return only_counted(target_part, counted), only_counted(other_part, counted), counted


def _split(logits: Tensor, target: Tensor) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b c"]]:
    """Two logits whose softmax is [p_y, 1 - p_y], and all logits with the label's so low that its share is 0."""
    label = target.unsqueeze(1)
    others = logits.scatter(1, label, torch.finfo(logits.dtype).min)  # a number: of -inf alone comes no gradient
    return torch.cat([logits.gather(1, label), others.logsumexp(-1, keepdim=True)], -1), others


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
    required_inputs: ClassVar[frozenset[str]] = frozenset({"target"})

    def __init__(self, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = ops.positive_temperature(temperature)
        self.terms = self.weighted_terms(target=(alpha, self._target_term), non_target=(beta, self._non_target_term))

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
        return pair.once(self, lambda pair: dkd_parts(*logits(pair, "DKD"), target, self.temperature))
