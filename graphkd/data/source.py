"""What a data set must offer, and what a transform must offer, to be viewed, embedded and scored."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from PIL.Image import Image

from graphkd.typing import Float, Tensor


class Named(Protocol):
    """Samples by name and size alone: a source, or what a store kept of one."""

    @property
    def ids(self) -> Sequence[str]:
        """One stable name per sample."""
        ...

    @property
    def sizes(self) -> Sequence[int]:
        """Bytes of each sample."""
        ...


class ImageSource(Protocol):
    """Images with stable names; labels are optional and never needed for training without labels.

    Attributes:
        classes: class names, index = label, or ``None``.
        ids: one stable name per sample: the POSIX path relative to the root, or the index as text.
    """

    classes: Sequence[str] | None
    ids: Sequence[str]

    def __len__(self) -> int:
        """Number of samples."""
        ...

    @property
    def sizes(self) -> Sequence[int]:
        """Bytes of each sample's source (file size, or bytes of the pixels)."""
        ...

    def image(self, index: int) -> Image:
        """The decoded RGB image. Raises: DataError that names the file where it cannot be read."""
        ...

    def target(self, index: int) -> int | None:
        """The label, or ``None`` where there is none."""
        ...

    def content_hash(self, index: int) -> str:
        """SHA-256 (hex) of the sample's bytes."""
        ...


class Transform(Protocol):
    """Image -> tensor in [0, 1]; random ones draw from torch's global generator only, which Views seeds.

    Attributes:
        spec: what determines the result, as JSON-ready data; part of a store's fingerprint.
    """

    spec: dict[str, Any]

    def __call__(self, image: Image) -> Float[Tensor, "3 h w"]:
        """The view of one image."""
        ...


@runtime_checkable
class RandomTransform(Transform, Protocol):
    """A random transform whose draw can be kept and applied again.

    Attributes:
        names: of the numbers that describe a draw.
        space: what they refer to: a draw may be applied by another transform of the same names and space.
    """

    names: tuple[str, ...]
    space: str

    def draw(self, image: Image) -> list[float]:
        """The numbers of one view, exact in float32."""
        ...

    def apply(self, image: Image, drawn: Sequence[float]) -> Float[Tensor, "3 h w"]:
        """The view that these numbers describe; ``transform(image)`` is ``apply(image, draw(image))``."""
        ...
