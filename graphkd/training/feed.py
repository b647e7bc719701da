"""What one forward pass gets: images on their device, the teacher's features, both mixed where that was asked for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from graphkd.chunks import in_chunks
from graphkd.data.mixing import Mixing, mixing_generator
from graphkd.data.views import Batch, Views
from graphkd.features import Features
from graphkd.training.config import TrainConfig
from graphkd.training.devices import Ranks
from graphkd.typing import Float, Tensor


class Feed:
    """Batches of one run.

    Args:
        config: the options.
        device: of the student.
        rank: of this process.
    """

    def __init__(self, config: TrainConfig, device: torch.device, rank: int) -> None:
        self.config, self.device, self.rank = config, device, rank
        self.mixing = Mixing(config.mixup, config.cutmix) if config.mixup or config.cutmix else None

    def __call__(
        self, batch: Batch, features: Callable[[Batch], Features] | None, epoch: int, number: int
    ) -> tuple[Batch, Float[Tensor, "b 3 h w"], Features | None]:
        """Batch ``number`` of an epoch on its device, the student's images, and the teacher's features."""
        batch = batch.to(self.device)
        images, teacher = batch.student, features and self._teacher(batch, features)
        if self.mixing is not None and teacher is not None:
            luck = mixing_generator(self.config.seed, epoch, number, self.rank)
            images, mixture = self.mixing(images, luck)
            teacher = replace(teacher, mixture=mixture)
        return batch, images, teacher

    def _teacher(self, batch: Batch, features: Callable[[Batch], Features]) -> Features:
        spans = in_chunks(len(batch), self.config.chunk)
        parts = [batch] if len(spans) == 1 else [batch.rows(span) for span in spans]
        return Features.joined([features(part).to(self.device) for part in parts])


def loaders(
    views: Views, scored: Views | None, config: TrainConfig, ranks: Ranks, device: torch.device
) -> tuple[Any, Any]:
    """This process's batches of the training images, and of the scored ones where there are any.

    Not prepared by accelerate: its default repeats samples to make shares even, and a graph has each once.
    """
    share: dict[str, Any] = {"rank": ranks.rank, "world": ranks.world, "workers": config.workers}
    share["pin_memory"] = device.type == "cuda"
    train = views.loader(config.batch_size, **share)
    return train, scored and scored.loader(config.batch_size, shuffle=False, drop_last=False, **share)
