"""Views of one image as tensors in [0, 1]; the random ones draw from torch's global generator, which Views seeds.

A random view is ``apply(image, draw(image))``: what was drawn is a few numbers, which a store keeps beside the features
of the view, so that a student sees the very crop that its teacher saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from PIL.Image import Image, Resampling
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional

from graphkd.errors import OptionError
from graphkd.registry import unknown
from graphkd.teachers.preprocess import INTERPOLATIONS, RESIZES, Preprocess, Size, parts
from graphkd.typing import Float, Tensor

_THIN = 8  # times the pixels of the view: from there on only the part that is kept is resized


class Transform(Protocol):
    """Image -> tensor in [0, 1]; random ones draw from torch's global generator only, which Views seeds.

    Attributes:
        spec: what determines the result, as JSON-ready data; part of a store's fingerprint.
    """

    spec: dict[str, Any]

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        """The view of one image."""


@runtime_checkable
class RandomTransform(Transform, Protocol):
    """A random transform whose draw can be kept and applied again.

    Attributes:
        names: of the numbers that describe a draw.
        space: what they refer to: a draw may be applied by another transform of the same names and space.
    """

    names: tuple[str, ...]

    @property
    def space(self) -> str:
        """What a draw refers to."""

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        """A view at random."""
        return self.apply(image, self.draw(image))

    def draw(self, image: Image) -> list[float]:
        """The numbers of one view, exact in float32."""

    def apply(self, image: Image, drawn: Sequence[float]) -> Float[Tensor, "3 h w"]:
        """The view that these numbers describe; ``transform(image)`` is ``apply(image, draw(image))``."""


class _View:
    """Names a transform and its options in ``spec``; refuses a size that is no size."""

    spec: dict[str, Any]
    size: int | Size

    def __post_init__(self) -> None:
        options = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        if min(_sides(self.size)) < 1:
            raise OptionError(f"{type(self).__name__} expects a size of at least 1 pixel, found {self.size}")
        if options.get("interpolation") == "bicubic":
            del options["interpolation"]  # the stores that were made before there was a choice stay readable
        object.__setattr__(self, "spec", {"transform": type(self).__name__, **options})


@dataclass(frozen=True)
class _Fitted(_View):
    """The image in a size that does not depend on it, as open_clip's ``image_transform`` makes it."""

    size: int | Size
    interpolation: str = "bicubic"
    mode: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, list(INTERPOLATIONS))

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        return _to_tensor(_fitted(image, _sides(self.size), self.mode, self.interpolation))


@dataclass(frozen=True)
class ResizeView(_Fitted):
    """The whole image, squeezed to the size (antialiased).

    Args:
        size: side or (height, width), pixels.
        interpolation: ``"bicubic"`` or ``"bilinear"``.

    Shapes: image -> (3, height, width).
    """

    mode = "squash"


@dataclass(frozen=True)
class CenterView(_Fitted):
    """The centre of the image: scaled to cover the size (antialiased), then cropped.

    Of an image with a side over 8 times the other only the part that is kept is scaled: the same pixels up to 2/255,
    without the memory of the whole.

    Args:
        size: side or (height, width), pixels.
        interpolation: ``"bicubic"`` or ``"bilinear"``.

    Shapes: image -> (3, height, width).
    """

    mode = "shortest"


@dataclass(frozen=True)
class PadView(_Fitted):
    """The whole image, scaled to fit into the size (antialiased), with black around.

    Args:
        size: side or (height, width), pixels.
        interpolation: ``"bicubic"`` or ``"bilinear"``.

    Shapes: image -> (3, height, width).
    """

    mode = "longest"


@dataclass(frozen=True)
class RandomCropView(_View, RandomTransform):
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
        square = _fitted(image, (self.size, self.size), "shortest", "bicubic")
        padded = functional.pad(square, [self.padding])
        top, left, flip = map(int, drawn)
        return _flipped(_to_tensor(functional.crop(padded, top, left, self.size, self.size)), flip)


@dataclass(frozen=True)
class RandomResizedCropView(_View, RandomTransform):
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
        crop = functional.resized_crop(
            image, top, left, height, width, [self.size, self.size], InterpolationMode.BICUBIC
        )
        return _flipped(_to_tensor(crop), flip)


_VIEWS: dict[str, Any] = {
    each.__name__: each for each in (ResizeView, CenterView, PadView, RandomCropView, RandomResizedCropView)
}


def view_of(spec: Mapping[str, Any]) -> Transform:
    """The transform that a ``spec`` describes, as a store keeps it.

    Raises: UnknownNameError for a transform that is not one of these; OptionError for options that it does not take.
    Example: ``view_of(CenterView(32).spec) == CenterView(32)``
    """
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}
    name = str(options.pop("transform", None))
    if name not in _VIEWS:
        raise unknown("transform", name, list(_VIEWS))
    try:
        found: Transform = _VIEWS[name](**options)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} does not take the options {options}: {error}; make the store anew") from error
    return found


def network_view(preprocess: Preprocess | None, size: int | None = None) -> Transform:
    """What a frozen network is shown: its own preprocessing, made by Pillow from the file.

    Args:
        preprocess: of the network; ``None`` where it has none, then the centre of the image.
        size: side, pixels; default the network's own, else 224.

    Example: ``network_view(teacher.preprocess)``
    """
    if preprocess is None:
        return CenterView(size or 224)
    own = size or preprocess.size or 224
    kind = {each.mode: each for each in (ResizeView, CenterView, PadView)}[preprocess.resize_mode]
    return kind(max(own) if isinstance(own, tuple) and own[0] == own[1] else own, preprocess.interpolation)


def _sides(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else size


def _fitted(image: Image, size: Size, mode: str, interpolation: str) -> Image:
    have, filter = (image.height, image.width), Resampling[interpolation.upper()]
    axes = parts(have, size, mode, interpolation)
    (_, height), (_, width) = sorted(axes)
    scaled = RESIZES.get(mode)(have, size)
    if scaled[0] * scaled[1] <= _THIN * size[0] * size[1]:
        left, top = width.corner, height.corner
        return image.resize(scaled[::-1], filter).crop((left, top, left + size[1], top + size[0]))
    image = image.crop((width.first, height.first, width.last, height.last))
    for axis, part in axes:  # one pass each: Pillow would choose the order by the part, not by the whole image
        box, sides = [0.0, 0.0, *map(float, image.size)], list(image.size)
        box[1 - axis], box[3 - axis] = part.start - part.first, part.stop - part.first
        sides[1 - axis] = part.out
        image = image.resize((sides[0], sides[1]), filter, box=(box[0], box[1], box[2], box[3]))
    return image


def _to_tensor(image: Image) -> Float[Tensor, "3 h w"]:
    tensor: Tensor = functional.pil_to_tensor(image.convert("RGB"))
    return tensor.float() / 255


def _coin(flip: bool) -> float:
    return float(flip and torch.rand(()) < 0.5)


def _flipped(image: Float[Tensor, "3 h w"], flip: int) -> Float[Tensor, "3 h w"]:
    return image.flip(-1) if flip else image
