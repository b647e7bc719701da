"""Checks of images in [0, 1], and the mean and deviation that normalise them."""

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from graphkd.errors import DataError, OptionError, ShapeError
from graphkd.typing import Float, Tensor

log = logging.getLogger("graphkd")
_ROUNDING = 1e-3


def check_form(images: Tensor, channels: int | None) -> None:
    """Refuse bytes, and anything but a batch of images of that many channels; ``None`` allows any shape.

    Raises: ShapeError.
    """
    right = channels is None or (images.ndim == 4 and images.shape[1] == channels)
    if not right or not images.is_floating_point():
        raise ShapeError(
            f"expected images (b, {channels or 'channels'}, h, w), floating point in [0, 1], found "
            f"{tuple(images.shape)} {images.dtype}: divide bytes by 255, repeat a grey channel 3 times (or give Tap "
            "mean= and std= of as many channels), and add the batch axis to a single image"
        )


class RangeCheck:
    """Refuses images with values outside [0, 1].

    Reading values waits for the device. So every batch is checked on a CPU, only the first one elsewhere, and
    none inside ``torch.compile``. A NaN passes: the loss shows it.
    """

    _looked = False

    def __call__(self, images: Float[Tensor, "b channels h w"], *, refuse: bool = True) -> None:
        """Raises: DataError that says what was found. Without ``refuse`` it warns, after the first batch."""
        again = refuse and images.device.type == "cpu"
        if torch.compiler.is_compiling() or images.is_meta or not images.numel() or (self._looked and not again):
            return
        self._looked = True
        low, high = torch.stack(images.detach().aminmax()).tolist()
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            found = (
                f"expected images in [0, 1], found values from {low:.3g} to {high:.3g}: divide bytes by 255, clamp the "
                "overshoot of a bicubic resize, and do not normalise: graphkd does it (Tap(..., mean=False) leaves it "
                "to you)"
            )
            if refuse:
                raise DataError(found)
            log.warning("%s", found)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, a moving average, or a sequence of one."""
    while not hasattr(model, "pretrained_cfg"):
        inner = model[0] if isinstance(model, nn.Sequential) and len(model) == 1 else getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def normalization(
    model: nn.Module, mean: Sequence[float] | Literal[False] | None, std: Sequence[float] | None
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Mean and deviation as given, else those of the network's own ``pretrained_cfg`` (timm's name), else none.

    Args:
        mean: ``False`` for none, whatever ``pretrained_cfg`` holds.

    Shapes: two of (channels, 1, 1).
    Raises: OptionError.
    """
    if mean is None and std is None:
        said = getattr(_unwrapped(model), "pretrained_cfg", None) or {}
        mean, std = said.get("mean"), said.get("std")
        if mean is None and any(getattr(each, "pretrained_cfg", None) for each in model.modules()):
            log.warning(
                "a network inside %s says the mean and deviation of its images, and nothing is normalised: give Tap "
                "mean= and std=, or mean=False if your network does it",
                type(model).__name__,
            )
    if not mean and std is None:
        return None, None
    if not mean or std is None or len(mean) != len(std) or min(std) <= 0:
        raise OptionError(f"mean and std need one value per channel each, std > 0; found mean={mean}, std={std}")
    return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
