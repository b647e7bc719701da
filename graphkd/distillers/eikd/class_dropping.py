r"""Class dropping: which classes of a sample the teacher is believed on, and the KD loss over those only.

On images from another domain the tail of the teacher's probabilities is noise. Each part here chooses the kept classes
:math:`K_i` of sample i from the teacher's logits. The KD term is then, for each sample,

.. math:: l_i = T^2\, \mathrm{KL}\big(\mathrm{softmax}_{K_i}(z^T_i / T) \,\|\, \mathrm{softmax}_{K_i}(z^S_i / T)\big)

A class outside :math:`K_i` gets a gradient of exactly 0, unless ``student_keeps_all`` says otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import nn

from graphkd.distillers.eikd.losses import dataset_classes, top_classes
from graphkd.errors import OptionError
from graphkd.registry import Registry
from graphkd.typing import Bool, Float, Tensor


class ClassDropping(nn.Module, ABC):
    """One way to choose the kept classes.

    Attributes:
        student_keeps_all: whether the student's softmax runs over all classes.
    """

    student_keeps_all = False

    @abstractmethod
    def forward(self, teacher: Float[Tensor, "b c"]) -> Bool[Tensor, "b c"]:
        """Which classes each sample keeps, from the teacher's logits; none for a sample that leaves the loss."""


@final
class AllClasses(ClassDropping):
    """Nothing is dropped: plain KD."""

    def forward(self, teacher: Float[Tensor, "b c"]) -> Bool[Tensor, "b c"]:
        """Every class."""
        return torch.ones_like(teacher, dtype=torch.bool)


@final
class TopK(ClassDropping):
    """The k best classes of each sample. Args: k: classes kept, >= 1; all of them where there are fewer."""

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise OptionError(f"at least 1 class is kept, k = {k} was asked for")
        self.k = k

    def forward(self, teacher: Float[Tensor, "b c"]) -> Bool[Tensor, "b c"]:
        """The k best classes."""
        return top_classes(teacher, self.k)


@final
class DatasetClasses(ClassDropping):
    """Some classes of the whole data set; a sample whose best class is not among them leaves the loss.

    Args: classes (c,): which to keep, such as ``selection.trusted_classes(min_samples=10)``.
    """

    classes: Tensor

    def __init__(self, classes: Bool[Tensor, " c"]) -> None:
        super().__init__()
        self.register_buffer("classes", classes)

    def forward(self, teacher: Float[Tensor, "b c"]) -> Bool[Tensor, "b c"]:
        """The trusted classes, or none."""
        return dataset_classes(teacher, self.classes)


CLASS_DROPPINGS: Registry[Callable[[int], ClassDropping]] = Registry("class dropping")
"""Name -> the part for a number of classes."""

CLASS_DROPPINGS.register("off")(lambda classes: AllClasses())
CLASS_DROPPINGS.register("topk")(lambda classes: TopK(min(classes, 10)))
