"""Views of one image as tensors in [0, 1]; the random ones draw from torch's global generator, which Views seeds.

A random view is ``apply(image, draw(image))``: what was drawn is a few numbers, which a store keeps beside the features
of the view, so that a student sees the very crop that its teacher saw.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from PIL.Image import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional

from graphkd.errors import OptionError
from graphkd.registry import unknown
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


class _RandomView(_View, ABC):
    """Splits the randomness from its use; ``space`` says what the numbers refer to."""

    names: ClassVar[tuple[str, ...]]

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        return self.apply(image, self.draw(image))

    @abstractmethod
    def draw(self, image: Image) -> list[float]:
        """The numbers of one view, as ``names`` lists them."""

    @abstractmethod
    def apply(self, image: Image, drawn: Sequence[float]) -> Float[Tensor, "3 h w"]:
        """The view that these numbers describe."""


@dataclass(frozen=True)
class RandomCropView(_RandomView):
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
    names = ("top", "left", "flip")

    @property
    def space(self) -> str:
        """The padded centre square."""
        return f"centre of {self.size} pixels, padded by {self.padding}"

    def draw(self, image: Image) -> list[float]:
        """Corner of the crop in the padded square, pixels; 1 for a flip."""
        top, left = torch.randint(2 * self.padding + 1, (2,)).tolist()
        return [top, left, _coin(self.flip)]

    def apply(self, image: Image, drawn: Sequence[float]) -> Float[Tensor, "3 h w"]:
        """That crop."""
        padded = functional.pad(_center(image, self.size), [self.padding])
        top, left, flip = map(int, drawn)
        return _flipped(_to_tensor(functional.crop(padded, top, left, self.size, self.size)), flip)


@dataclass(frozen=True)
class RandomResizedCropView(_RandomView):
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
    names = ("top", "left", "height", "width", "flip")
    space = "pixels of the image"

    def draw(self, image: Image) -> list[float]:
        """The part, in pixels of the image and so for views of any size; 1 for a flip."""
        box = RandomResizedCrop.get_params(image, list(self.scale), list(self.ratio))
        return [*map(float, box), _coin(self.flip)]

    def apply(self, image: Image, drawn: Sequence[float]) -> Float[Tensor, "3 h w"]:
        """That part."""
        top, left, height, width, flip = map(int, drawn)
        crop = functional.resized_crop(image, top, left, height, width, [self.size, self.size], BICUBIC)
        return _flipped(_to_tensor(crop), flip)


_VIEWS: dict[str, Any] = {
    each.__name__: each for each in (ResizeView, CenterView, RandomCropView, RandomResizedCropView)
}


def view_of(spec: Mapping[str, Any]) -> ResizeView | CenterView | RandomCropView | RandomResizedCropView:
    """The transform that a ``spec`` describes, as a store keeps it.

    Raises: UnknownNameError for a transform that is not one of these; OptionError for options that it does not take.
    Example: ``view_of(CenterView(32).spec) == CenterView(32)``
    """
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}
    name = str(options.pop("transform", None))
    if name not in _VIEWS:
        raise unknown("transform", name, list(_VIEWS))
    try:
        found: ResizeView | CenterView | RandomCropView | RandomResizedCropView = _VIEWS[name](**options)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} does not take the options {options}: {error}; make the store anew") from error
    return found


def _center(image: Image, size: int) -> Image:
    square: Image = functional.center_crop(functional.resize(image, size, BICUBIC), [size, size])
    return square


def _to_tensor(image: Image) -> Float[Tensor, "3 h w"]:
    tensor: Tensor = functional.pil_to_tensor(image.convert("RGB"))
    return tensor.float() / 255


def _coin(flip: bool) -> float:
    return float(flip and torch.rand(()) < 0.5)


def _flipped(image: Float[Tensor, "3 h w"], flip: int) -> Float[Tensor, "3 h w"]:
    return image.flip(-1) if flip else image
