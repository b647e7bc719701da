"""A step made ready for training: on its device, in chunks, with frozen layers, compiled; as the options say."""

from typing import Any

import torch
from torch import nn

from graphkd.models.freezing import freeze
from graphkd.step import Step
from graphkd.training.config import TrainConfig


def prepared(step: Step, config: TrainConfig, device: torch.device | str | None = None) -> Any:
    """The same step, changed in place.

    Args:
        device: where to move it; ``None`` leaves it.

    Raises: OptionError for a pattern of ``freeze`` that matches nothing.
    """
    if device is not None:
        step.to(device)
    if config.chunk is not None:
        step.chunk = config.chunk
    freeze(step.student, config.freeze)
    if config.compile:
        nn.Module.compile(step)  # in place: names in the state dict stay
    return step
