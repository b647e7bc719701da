"""What every teacher is: a frozen callable from images to Features."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from graphkd.features import Features
from graphkd.typing import Float, Tensor


class Teacher(ABC):
    """A frozen network that turns images in [0, 1] into :class:`Features`, without gradient.

    A teacher is no ``nn.Module``: it never enters a state dict, a DDP wrapper or an optimiser. It resizes and
    normalises images itself, counts its forward passes in ``forwards``, and names itself by :meth:`fingerprint`.

    Attributes:
        embedding_dim: width d of the embedding.
        classes: class names, or ``None``.
        num_classes: number of logits, or ``None`` for a teacher without head.
        forwards: batches it has seen since it was built.
    """

    embedding_dim: int
    classes: Sequence[str] | None
    num_classes: int | None
    forwards: int = 0

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """Features of a batch of images in [0, 1], of any size.

        Shapes: (b, 3, h, w) -> embedding (b, d), logits (b, c), proxies (c, d), proxy_logits (c, c).
        """
        self.forwards += 1
        return self.features(images)

    @abstractmethod
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """The features themselves; called without gradient."""

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """What determines the output, as JSON-ready text: weights, prompts, prompt weighting, preprocessing."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "Teacher":
        """Move to a device, in place; returns itself."""
