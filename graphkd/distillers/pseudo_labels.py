"""What a teacher's logits teach as labels: hard or soft targets, calibrated, thresholded, blended where images were."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import one_hot

from graphkd.errors import MissingFeatureError, OptionError
from graphkd.features import Features
from graphkd.losses import labelled
from graphkd.ops import expectation
from graphkd.registry import Registry
from graphkd.typing import Float, Int, Tensor

Target = Callable[[Tensor, Tensor | None], Tensor]
LABEL_TARGETS: Registry[Target] = Registry("pseudo-label target")


@LABEL_TARGETS.register("hard")
def _hard(probabilities: Float[Tensor, "b c"], labels: Tensor | None) -> Float[Tensor, "b c"]:
    """All weight on the teacher's best class."""
    return one_hot(probabilities.argmax(-1), probabilities.shape[-1]).to(probabilities.dtype)


@LABEL_TARGETS.register("soft")
def _soft(probabilities: Float[Tensor, "b c"], labels: Tensor | None) -> Float[Tensor, "b c"]:
    """The teacher's calibrated probabilities."""
    return probabilities


@LABEL_TARGETS.register("label")
def _label(probabilities: Float[Tensor, "b c"], labels: Tensor | None) -> Float[Tensor, "b c"]:
    """The true label, nothing where there is none: the supervised reference, never a label-free run."""
    if labels is None:
        raise MissingFeatureError("labels='label' trains on true labels and needs target=...: give it, or use 'hard'")
    index, counted = labelled(labels, probabilities)
    return one_hot(index, probabilities.shape[-1]) * counted.unsqueeze(-1)


class PseudoLabels(nn.Module):
    r"""Cross-entropy of the student under targets made of the teacher's logits.

    .. math:: L = \frac{1}{B} \sum_i [\max_c p_{ic} \ge \theta]\; \mathrm{CE}(q_i, z^S_i), \qquad
              p_i = \mathrm{softmax}(\bar z_i / \tau)

    with q the hard or soft target made of p.

    Args:
        target: ``"hard"`` (default), ``"soft"``, ``"label"``, or a function of (probabilities, labels).
        temperature: calibration tau of the teacher's logits, > 0; default 1.
        threshold: confidence theta below which a sample is left out, in [0, 1); default 0 keeps all.

    Shapes: logits (b, c) twice -> (b,), one loss per sample.
    Differs from the official code: there is none; which of these PRG used is not known.
    """

    def __init__(self, target: str | Target = "hard", *, temperature: float = 1.0, threshold: float = 0.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise OptionError(f"the calibration temperature is > 0, found {temperature}")
        if not 0 <= threshold < 1:
            raise OptionError(f"the confidence threshold is in [0, 1), found {threshold}: nothing passes 1")
        self.target, self.temperature, self.threshold = LABEL_TARGETS.resolve(target), temperature, threshold

    def forward(self, student: Features, teacher: Features, labels: Int[Tensor, " b"] | None) -> Float[Tensor, " b"]:
        """Loss of each sample; one that is not confident enough teaches nothing, also where it was blended in."""
        logits = teacher.tensor("logits", "the pseudo-label term")
        probabilities = (logits / self.temperature).softmax(-1)
        targets = self.target(probabilities, labels)
        best = probabilities.amax(-1)
        kept = torch.where(best.isnan(), best, (best >= self.threshold).to(best))  # a NaN is never hidden
        targets = targets * kept.unsqueeze(-1)
        if teacher.mixture is not None:
            targets = teacher.mixture.blend(targets)
        log_likelihood = student.tensor("logits", "the pseudo-label term").log_softmax(-1)
        return -expectation(targets, log_likelihood)
