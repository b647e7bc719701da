"""From images in [0, 1] of any size to what a frozen network expects."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from graphkd.errors import OptionError, ShapeError
from graphkd.registry import Registry, unknown
from graphkd.typing import Float, Tensor

Size = tuple[int, int]
_LARGEST = 1 << 13  # pixels a side, which a configuration may ask for
RESIZES: Registry[Callable[[Tensor, Size, str], Tensor]] = Registry("resize mode")


@RESIZES.register
def shortest(images: Tensor, size: Size, interpolation: str) -> Tensor:
    """Cover the target, keep the aspect ratio, crop the centre."""
    height, width = images.shape[-2:]
    ratio = max(size[0] / height, size[1] / width)
    images = _scaled(images, (max(size[0], int(height * ratio)), max(size[1], int(width * ratio))), interpolation)
    top, left = ((have - want) // 2 for have, want in zip(images.shape[-2:], size, strict=True))
    return images[..., top : top + size[0], left : left + size[1]]


@RESIZES.register
def squash(images: Tensor, size: Size, interpolation: str) -> Tensor:
    """Fill the target and give up the aspect ratio."""
    return _scaled(images, size, interpolation)


@RESIZES.register
def longest(images: Tensor, size: Size, interpolation: str) -> Tensor:
    """Fit into the target, keep the aspect ratio, pad with black."""
    height, width = images.shape[-2:]
    ratio = min(size[0] / height, size[1] / width)
    inner = (min(size[0], max(1, round(height * ratio))), min(size[1], max(1, round(width * ratio))))
    rows, columns = size[0] - inner[0], size[1] - inner[1]
    border = [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
    return pad(_scaled(images, inner, interpolation), border)


def _scaled(images: Tensor, size: Size, interpolation: str) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    # bicubic overshoots; image libraries clip it too, as their pixels are bytes
    return interpolate(images, size, mode=interpolation, antialias=True, align_corners=False).clamp(0, 1)


class Preprocess(nn.Module):
    """Resize with antialiasing, then normalize: ``(resize(x) - mean) / std``.

    Args:
        mean, std: per channel, of pixels in [0, 1]; std > 0.
        size: side or (height, width) in pixels; ``None`` keeps the size of the images.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        resize_mode: ``"shortest"`` (cover and crop the centre), ``"squash"`` or ``"longest"`` (fit and pad with black).

    Shapes: (b, 3, h, w) -> (b, 3, size[0], size[1]), float32.
    Raises: OptionError, UnknownNameError; ShapeError unless the images are a floating-point batch of 3 channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        size: int | Sequence[int] | None = None,
        interpolation: str = "bicubic",
        resize_mode: str = "shortest",
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or not min(std) > 0:
            raise OptionError(f"expected mean and std > 0 of 3 channels, found mean={tuple(mean)} and std={tuple(std)}")
        if interpolation not in ("bicubic", "bilinear"):
            raise unknown("interpolation", interpolation, ["bicubic", "bilinear"])
        self.size: Size | None = None
        if size is not None:
            sides = (size, size) if isinstance(size, int) else tuple(size)
            if len(sides) != 2 or not 1 <= min(sides) <= max(sides) <= _LARGEST:
                raise OptionError(
                    f"expected an image size in pixels, one side or (height, width), found {size!r}: "
                    f"give 1 to {_LARGEST}"
                )
            self.size = (int(sides[0]), int(sides[1]))
        self.interpolation, self.resize_mode = interpolation, resize_mode
        self._resize = RESIZES.get(resize_mode)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.spec: dict[str, Any] = {
            "size": self.size and list(self.size),
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
            "interpolation": interpolation,
            "resize_mode": resize_mode,
        }

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """The network's input."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ShapeError(
                f"expected images (b, 3, h, w), floating point in [0, 1], found {tuple(images.shape)} {images.dtype}: "
                "divide bytes by 255, repeat a grey channel 3 times, and add the batch axis to a single image"
            )
        with torch.autocast(images.device.type, enabled=False):
            pixels = images.float()
            if self.size is not None:
                pixels = self._resize(pixels, self.size, self.interpolation)
            return (pixels - self.mean) / self.std
