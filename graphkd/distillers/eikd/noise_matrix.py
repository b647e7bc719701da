r"""DFND's noise matrix: a student trained on pseudo-labels that are wrong at a known rate, in learned ways."""

from dataclasses import replace

import torch
from torch import nn

from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.errors import OptionError
from graphkd.features import Features
from graphkd.typing import Float, Int, Tensor


class NoiseMatrix(nn.Module):
    r"""Likelihood of the teacher's label when the student's class passes through a noisy channel Q.

    .. math:: l_i = -\log \big(\mathrm{softmax}(z^S_i)\, Q\big)_{\hat y_i}, \quad Q_{kk} = a, \quad
              Q_{kj} = (1 - a)\, \mathrm{softmax}_{j \ne k}(w_{kj}), \quad \hat y = \arg\max z^T

    with a the teacher's accuracy and w learned jointly, 0 at the start.

    Source: Huawei's DFND (Efficient-Computing@225ddd2), which trains w by Adam at 1e-3.
    Args:
        num_classes: K >= 2.
        accuracy: a in (0, 1), of the teacher on its own test set; DFND's are 0.9523 (CIFAR-10), 0.7774 (CIFAR-100).

    Shapes: logits (b, K) twice -> (b,), one loss per sample.
    Raises: OptionError for an accuracy outside (0, 1).
    """

    def __init__(self, num_classes: int, accuracy: float) -> None:
        super().__init__()
        if not 0 < accuracy < 1 or num_classes < 2:
            raise OptionError(
                f"expected a teacher's accuracy in (0, 1) and 2 classes or more, found {accuracy} and {num_classes}"
            )
        self.accuracy = accuracy
        self.weight = nn.Parameter(torch.zeros(num_classes, num_classes))
        self.labels = PseudoLabels()

    def matrix(self) -> Float[Tensor, "c c"]:
        """Q, whose rows sum to 1; the diagonal of w plays no part."""
        diagonal = torch.eye(len(self.weight), dtype=torch.bool, device=self.weight.device)
        others = self.weight.masked_fill(diagonal, float("-inf")).softmax(-1)
        return torch.where(diagonal, self.accuracy, (1 - self.accuracy) * others)

    def forward(self, student: Features, teacher: Features, labels: Int[Tensor, " b"] | None) -> Float[Tensor, " b"]:
        """Loss of each sample."""
        seen = student.tensor("logits", "the noise matrix").softmax(-1)
        likelihood = (seen @ self.matrix().to(seen.dtype)).clamp_min(torch.finfo(seen.dtype).tiny)
        losses: Tensor = self.labels(replace(student, logits=likelihood.log()), teacher, labels)
        return losses
