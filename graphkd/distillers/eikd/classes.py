"""EIKD's KD term over the classes that the teacher is believed on, and the logits of those classes."""

import torch
from torch import nn

from graphkd import distributed, ops
from graphkd.checks import same_logits
from graphkd.distillers.base import Pair, mean_over_batch
from graphkd.distillers.eikd.class_dropping import CLASS_DROPPINGS, ClassDropping
from graphkd.distillers.parts import unmasked
from graphkd.typing import Float, Int, Tensor


class TrustedClasses(nn.Module):
    """KD over the kept classes, mean over the samples that keep any, of all ranks; 0 where none does.

    Args:
        num_classes: number of logits.
        drop: name or part of ``graphkd.distillers.eikd.class_dropping``.
        temperature: T > 0.

    Attributes:
        single_share: share of this rank's last batch that kept a single class: their KD loss is 0 by construction.

    Raises: OptionError for a temperature <= 0, ShapeError for logits of other classes.
    """

    single_share: Tensor

    def __init__(self, num_classes: int, drop: str | ClassDropping, temperature: float) -> None:
        super().__init__()
        self.temperature = ops.positive_temperature(temperature)
        self.drop = CLASS_DROPPINGS.get(drop)(num_classes, temperature) if isinstance(drop, str) else drop
        self.register_buffer("single_share", torch.zeros(()), persistent=False)

    def forward(self, pair: Pair) -> Float[Tensor, ""]:
        """The term."""
        losses, counted, classes = self.drop(*_logits(pair), self.temperature, _rows(pair))
        self.single_share.copy_((classes == 1).float().mean())
        return mean_over_batch(losses, counted)

    def kept_logits(self, pair: Pair) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        """Student's and teacher's logits, those of dropped classes set to 0."""
        student, teacher = _logits(pair)
        kept = self.drop.kept(teacher, _rows(pair))
        return torch.where(kept, unmasked(student), 0.0), torch.where(kept, unmasked(teacher), 0.0)


def _logits(pair: Pair) -> tuple[Tensor, Tensor]:
    """Logits of the blended images, over the same classes."""
    student, teacher = (x.blended().tensor("logits", "EIKD") for x in (pair.student_features, pair.teacher_features))
    same_logits(student, teacher)
    return student, teacher


def _rows(pair: Pair) -> Int[Tensor, " b"]:
    """What names each sample: its position in the data set if known, else in the global batch."""
    if pair.index is not None:
        return pair.index.to(pair.student_features.device)
    start = distributed.first_row(pair.sizes)
    return torch.arange(start, start + len(pair.student_features), device=pair.student_features.device)
