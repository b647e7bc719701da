"""From images in [0, 1] of any size to what a frozen network expects, by the arithmetic of open_clip and Pillow."""

from collections.abc import Callable, Sequence
from math import ceil, floor
from typing import Any, NamedTuple

import PIL
import torch
from torch import nn
from torch.nn.functional import pad

from graphkd.errors import OptionError
from graphkd.models.pixels import RangeCheck, check_form
from graphkd.registry import Registry, unknown
from graphkd.typing import Float, Tensor

Size = tuple[int, int]
RESIZES: Registry[Callable[[Size, Size], Size]] = Registry("resize mode")
INTERPOLATIONS = {"bicubic": 2.0, "bilinear": 1.0}  # reach of the filter, in pixels of the coarser image
_LARGEST = 1 << 13  # pixels a side, which a configuration may ask for
_PILLOW = int(PIL.__version__.partition(".")[0])


@RESIZES.register
def shortest(have: Size, want: Size) -> Size:
    """Cover the target and keep the aspect ratio; what stands out is cropped."""
    if want[0] == want[1]:
        longer = int(want[0] * max(have) / min(have))
        return (longer, want[1]) if have[0] > have[1] else (want[0], longer)
    ratio = min(have[0] / want[0], have[1] / want[1])
    return round(have[0] / ratio), round(have[1] / ratio)


@RESIZES.register
def squash(have: Size, want: Size) -> Size:
    """Fill the target and give up the aspect ratio."""
    return want


@RESIZES.register
def longest(have: Size, want: Size) -> Size:
    """Fit into the target and keep the aspect ratio; the rest is black."""
    ratio = max(have[0] / want[0], have[1] / want[1])
    return max(1, round(have[0] / ratio)), max(1, round(have[1] / ratio))


class Part(NamedTuple):
    """What the target shows of one axis of an image.

    Args:
        start, stop: the part, in pixels of the image.
        out: pixels that it becomes.
        first, last: whole pixels of the image that the filter reaches.
        corner: where the target begins in the scaled image; below 0 where the image is the smaller one.
    """

    start: float
    stop: float
    out: int
    first: int
    last: int
    corner: int

    @classmethod
    def of(cls, have: int, scaled: int, want: int, interpolation: str) -> "Part":
        """The centre ``want`` pixels of an axis that is scaled from ``have`` to ``scaled`` pixels."""
        corner = round((scaled - want) / 2) if scaled > want else -((want - scaled) // 2)
        out = min(scaled, want)
        start = max(corner, 0) * have / scaled
        stop = start + out * have / scaled
        reach = INTERPOLATIONS[interpolation] * max(1.0, have / scaled)
        return cls(start, stop, out, max(0, floor(start - reach)), min(have, ceil(stop + reach)), corner)


def parts(have: Size, want: Size, mode: str, interpolation: str) -> tuple[tuple[int, Part], ...]:
    """The axes (0: height, 1: width) in the order in which Pillow resizes them, each with what the target shows of it.

    Pillow clips pixels after each of its two passes, so at hard edges the order matters. From version 13 on it begins
    with the height where that loses more than twice as many pixels as the width.
    """
    scaled = RESIZES.get(mode)(have, want)
    height, width = ((axis, Part.of(have[axis], scaled[axis], want[axis], interpolation)) for axis in (0, 1))
    lost = [before - after for before, after in zip(have, scaled, strict=True)]
    return (height, width) if _PILLOW >= 13 and lost[0] > max(0, 2 * lost[1]) else (width, height)


class Preprocess(nn.Module):
    """Resize with antialiasing, then normalize: ``(resize(x) - mean) / std``.

    Sizes and corners are open_clip's, and the pixels are Pillow's: one axis after the other, each clipped to [0, 1].
    Only the part of the image that is kept is computed. Pillow also rounds to bytes after each axis, so the pixels
    differ by up to 1.3/255. A view of the network's own size (:func:`graphkd.data.transforms.network_view`) is made by
    Pillow itself from the file, and leaves nothing to resize here.

    Args:
        mean, std: per channel, of pixels in [0, 1]; std > 0.
        size: side or (height, width) in pixels; ``None`` keeps the size of the images.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        resize_mode: ``"shortest"`` (cover and crop the centre), ``"squash"`` or ``"longest"`` (fit and pad with black).

    Shapes: (b, 3, h, w) -> (b, 3, size[0], size[1]), float32.
    Raises: OptionError, UnknownNameError; ShapeError unless the images are a floating-point batch of 3 channels,
        DataError for values outside [0, 1] (:class:`graphkd.models.pixels.RangeCheck` says when it looks).
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
        if interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", interpolation, list(INTERPOLATIONS))
        RESIZES.get(resize_mode)
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
        self._check_range = RangeCheck()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.spec: dict[str, Any] = {
            "size": self.size and list(self.size),
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
            "interpolation": interpolation,
            "resize_mode": resize_mode,
        }
        if self.size is not None:
            self.spec["pixels"] = "Pillow's"  # features of stores without this word saw others

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """The network's input."""
        check_form(images, 3)
        self._check_range(images)
        with torch.autocast(images.device.type, enabled=False):
            pixels = images.float()
            if self.size is not None:
                pixels = self._resized(pixels, self.size)
            return (pixels - self.mean) / self.std

    def _resized(self, images: Tensor, size: Size) -> Tensor:
        found = parts((images.shape[-2], images.shape[-1]), size, self.resize_mode, self.interpolation)
        for axis, part in found:
            images = _resampled(images, axis - 2, part, self.interpolation)
        (_, height), (_, width) = sorted(found)
        left, top = max(0, -width.corner), max(0, -height.corner)
        border = [left, size[1] - width.out - left, top, size[0] - height.out - top]
        return pad(images, border) if any(border) else images


def _resampled(images: Tensor, dim: int, part: Part, interpolation: str) -> Tensor:
    """One part of one axis in its new number of pixels."""
    scale = (part.stop - part.start) / part.out
    if scale == 1 and part.start == int(part.start):
        return images.narrow(dim, int(part.start), part.out)
    images = images.narrow(dim, part.first, part.last - part.first)
    pixels = torch.arange(part.last - part.first, device=images.device) + 0.5
    centres = (torch.arange(part.out, device=images.device) + 0.5) * scale + (part.start - part.first)
    # where the image shrinks the filter widens: antialiasing
    weights = _filter((centres[:, None] - pixels).abs() / max(scale, 1.0), interpolation)
    weights = weights / weights.sum(1, keepdim=True)
    return (weights @ images if dim == -2 else images @ weights.T).clamp(0, 1)


def _filter(x: Tensor, interpolation: str) -> Tensor:
    """Weight of a pixel at distance x >= 0: a triangle, or Keys' cubic with a = -1/2."""
    if interpolation == "bilinear":
        return (1 - x).clamp_min(0)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
