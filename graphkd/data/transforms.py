"""Views of one image as tensors in [0, 1]; the random ones draw from torch's global generator, which Views seeds."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from PIL.Image import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional

from graphkd.errors import OptionError
from graphkd.typing import Float, Tensor

BICUBIC = InterpolationMode.BICUBIC


class _View:
    """Names a transform and its options in ``spec``; refuses a size that is no size."""

    spec: dict[str, Any]
    size: int

    def __post_init__(self) -> None:
        options = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        if self.size < 1:
            raise OptionError(f"{type(self).__name__} expects a size of at least 1 pixel, found {self.size}")
        object.__setattr__(self, "spec", {"transform": type(self).__name__, **options})


@dataclass(frozen=True)
class ResizeView(_View):
    """The whole image, squeezed to a square (bicubic, antialiased).

    Args:
        size: side, pixels.

    Shapes: image -> (3, size, size).
    """

    size: int

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        return _to_tensor(functional.resize(image, [self.size, self.size], BICUBIC))


@dataclass(frozen=True)
class CenterView(_View):
    """The centre square of the image: shorter side to ``size`` (bicubic, antialiased), then a crop.

    Args:
        size: side, pixels.

    Shapes: image -> (3, size, size).
    """

    size: int

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        return _to_tensor(_center(image, self.size))


@dataclass(frozen=True)
class RandomCropView(_View):
    """CIFAR's augmentation: the centre square, padded with black, cropped at a random place, flipped half of the time.

    Args:
        size: side, pixels.
        padding: black pixels on each side before the crop.
        flip: flip left-right with probability 1/2; off where left and right carry meaning, as in digits.

    Shapes: image -> (3, size, size).
    """

    size: int
    padding: int = 4
    flip: bool = True

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        padded = functional.pad(_center(image, self.size), [self.padding])
        top, left = torch.randint(2 * self.padding + 1, (2,)).tolist()
        return _flipped(_to_tensor(functional.crop(padded, top, left, self.size, self.size)), self.flip)


@dataclass(frozen=True)
class RandomResizedCropView(_View):
    """ImageNet's augmentation: a random part of the image, resized (bicubic, antialiased), flipped half of the time.

    Args:
        size: side, pixels.
        scale: smallest and largest share of the image's area, in (0, 1].
        ratio: smallest and largest width / height of the part.
        flip: flip left-right with probability 1/2.

    Shapes: image -> (3, size, size).
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        top, left, height, width = RandomResizedCrop.get_params(image, list(self.scale), list(self.ratio))
        crop = functional.resized_crop(image, top, left, height, width, [self.size, self.size], BICUBIC)
        return _flipped(_to_tensor(crop), self.flip)


def _center(image: Image, size: int) -> Image:
    square: Image = functional.center_crop(functional.resize(image, size, BICUBIC), [size, size])
    return square


def _to_tensor(image: Image) -> Float[Tensor, "3 h w"]:
    tensor: Tensor = functional.pil_to_tensor(image.convert("RGB"))
    return tensor.float() / 255


def _flipped(image: Float[Tensor, "3 h w"], flip: bool) -> Float[Tensor, "3 h w"]:
    return image.flip(-1) if flip and torch.rand(()) < 0.5 else image
