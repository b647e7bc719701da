"""What a data set must offer, images from files and from arrays, parts of a source, and a check of every image."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image

from graphkd.data.decoding import MAX_MEGAPIXELS, decoded, positive
from graphkd.errors import DataError, OptionError
from graphkd.files import local_path
from graphkd.text import open_regular


class Named(Protocol):
    """Samples by name and size alone: a source, or what a store kept of one."""

    @property
    def ids(self) -> Sequence[str]:
        """One stable name per sample."""

    @property
    def sizes(self) -> Sequence[int]:
        """Bytes of each sample."""


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

    @property
    def sizes(self) -> Sequence[int]:
        """Bytes of each sample's source (file size, or bytes of the pixels)."""

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image. Raises: DataError that names the file where it cannot be read."""

    def target(self, index: int) -> int | None:
        """The label, or ``None`` where there is none."""

    def content_hash(self, index: int) -> str:
        """SHA-256 (hex) of the sample's bytes."""


class LabelledSource:
    """Ids, labels and class names of a source that has listed its samples.

    Args:
        what: what messages call it.
        ids: one a sample.
        targets: labels; ``None``, or a negative one, for no label.
        classes: class names, index = label.

    Raises: DataError for no sample, another number of labels than samples, and a label without a class.
    """

    def __init__(self, what: str, ids: Sequence[str], targets: Any, classes: Sequence[str] | None) -> None:
        if not ids:
            raise DataError(f"{what} holds no image: at least one is needed")
        if targets is not None and len(targets) != len(ids):
            raise DataError(f"{what}: {len(ids)} images and {len(targets)} labels: each image needs one")
        if targets is not None and classes is not None and max(targets) >= len(classes):
            raise DataError(f"{what}: label {max(targets)} has no name among {len(classes)} classes")
        self.ids: Sequence[str] = ids
        self.classes: Sequence[str] | None = classes
        self._targets = None if targets is None else np.asarray(targets)

    def __len__(self) -> int:
        return len(self.ids)

    def target(self, index: int) -> int | None:
        """The label, or ``None``."""
        label = -1 if self._targets is None else int(self._targets[index])
        return label if label >= 0 else None


class FileSource(LabelledSource):
    """Image files below a root.

    Args:
        root: folder that ids are relative to.
        ids: POSIX paths of the images, relative to ``root``.
        targets: labels, or ``None`` for unlabelled images.
        classes: class names, index = label.
        max_megapixels: most pixels of an image that is decoded, in millions; see
            :func:`graphkd.data.decoding.decoded`.

    Raises: DataError for no image and a label without a class, and from :meth:`image` and :meth:`content_hash` for an
        unreadable file: a missing one, a dangling link, a pipe; the message names the path.
    """

    def __init__(
        self,
        root: str | Path,
        ids: Sequence[str],
        targets: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        super().__init__(f"folder {root}", ids, targets, classes)
        self.root, self.max_megapixels = local_path(root), positive(max_megapixels)

    @cached_property
    def sizes(self) -> Sequence[int]:
        """Bytes of each file; 0 for what is no file, which :meth:`image` refuses by name.

        Asked of the disk once, and not before it is needed: that takes longer than listing the files.
        """
        return [_file_size(os.path.join(self.root, name)) for name in self.ids]

    def image(self, index: int) -> Image.Image:
        """The file decoded to RGB, upright (EXIF orientation applied). Raises: DataError that names the file."""
        path = self.root / self.ids[index]
        return decoded(path, str(path), self.max_megapixels)

    def content_hash(self, index: int) -> str:
        """SHA-256 of the file. Raises: DataError that names it."""
        path = self.root / self.ids[index]
        try:
            with open_regular(path) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"cannot read image {path} ({error}): repair or remove it") from error

    def written(self, index: int) -> int:
        """When the file was last written, in ns since 1970."""
        return (self.root / self.ids[index]).stat().st_mtime_ns


class ArraySource(LabelledSource):
    """Images in memory; ids are the index as text.

    Args:
        images: uint8 pixels, grey or RGB.
        targets: labels; ``None`` or a negative label for an unlabelled image.
        classes: class names, index = label.

    Shapes: images (n, h, w) or (n, h, w, 3), targets (n,).

    Raises: DataError for other shapes or types, or a label without a class.
    """

    def __init__(
        self, images: "np.ndarray[Any, Any]", targets: Any = None, classes: Sequence[str] | None = None
    ) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
            raise DataError(f"expected uint8 [n, h, w] or [n, h, w, 3], found {images.dtype} {list(images.shape)}")
        super().__init__("array", [str(index) for index in range(len(images))], targets, classes)
        self.images = images
        self.sizes: Sequence[int] = [images[0].nbytes] * len(images)

    def image(self, index: int) -> Image.Image:
        """The pixels as an RGB image."""
        return Image.fromarray(self.images[index]).convert("RGB")

    def content_hash(self, index: int) -> str:
        """SHA-256 of the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.images[index]).tobytes()).hexdigest()


class SourceSubset:
    """Some samples of a source, with their own ids; see :func:`source_subset`."""

    def __init__(self, source: ImageSource, indices: Sequence[int]) -> None:
        self.source, self.indices = source, [int(index) for index in indices]
        self.classes: Sequence[str] | None = source.classes
        outside = [index for index in self.indices if not 0 <= index < len(source)]
        twice = [index for index, count in Counter(self.indices).items() if count > 1]
        if outside or twice or not self.indices:
            raise DataError(
                f"expected different indices in 0..{len(source) - 1}, at least one; "
                f"found {len(self.indices)}, outside: {outside[:5]}, more than once: {twice[:5]}"
            )
        self.ids: Sequence[str] = [source.ids[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def sizes(self) -> Sequence[int]:
        """Bytes of each sample."""
        return [self.source.sizes[index] for index in self.indices]

    def image(self, index: int) -> Image.Image:
        """The image of the subset's sample ``index``."""
        return self.source.image(self.indices[index])

    def target(self, index: int) -> int | None:
        """Its label, or ``None``."""
        return self.source.target(self.indices[index])

    def content_hash(self, index: int) -> str:
        """SHA-256 of its bytes."""
        return self.source.content_hash(self.indices[index])

    def written(self, index: int) -> int | None:
        """When its file was last written, in ns since 1970; ``None`` where the source knows of no files."""
        of = getattr(self.source, "written", None)
        return None if of is None else of(self.indices[index])


def source_subset(source: ImageSource, indices: Sequence[int]) -> SourceSubset:
    """The samples at ``indices``, in that order. Raises: DataError for none, repeated or outside indices."""
    return SourceSubset(source, indices)


class Readable(NamedTuple):
    """What :func:`readable` found: the images that decode, and the ids of those that do not."""

    source: ImageSource
    skipped: list[str]


def readable(
    source: ImageSource, on_error: Literal["stop", "skip"] = "stop", max_share: float = 0.01, workers: int = 2
) -> Readable:
    """Decode every image once, before a run, so that nothing is replaced or repeated within it.

    Args:
        on_error: ``"stop"`` raises at the first unreadable image; ``"skip"`` leaves them out and lists them.
        max_share: largest share of images that may be skipped, in [0, 1].
        workers: threads that decode.

    Raises: DataError that names the first unreadable image, or counts them where they are too many.

    Example: ``source, skipped = readable(open_folder("photos"), on_error="skip")``
    """
    if on_error not in ("stop", "skip") or not 0 <= max_share <= 1:
        raise OptionError(f"expected on_error 'stop' or 'skip', max_share in [0, 1], found {on_error!r}, {max_share}")
    errors: dict[int, DataError] = {}
    for index, error in enumerate(_decoding_errors(source, workers)):
        if error is not None and on_error == "stop":
            raise error
        if error is not None:
            errors[index] = error
    skipped = [source.ids[index] for index in errors]
    good = [index for index in range(len(source)) if index not in errors]
    if len(skipped) > max_share * len(source) or not good:
        first = next(iter(errors.values()))
        raise DataError(
            f"{len(skipped)} of {len(source)} images cannot be read, at most a share of {max_share:g} may be skipped: "
            f"repair or remove them; the first is {skipped[0]} ({first.__cause__ or first})"
        )
    return Readable(source_subset(source, good) if skipped else source, skipped)


def _decoding_errors(source: ImageSource, workers: int) -> Iterator[DataError | None]:
    def attempt(index: int) -> DataError | None:
        try:
            source.image(index)
        except DataError as error:
            return error
        return None

    indices = iter(range(len(source)))
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(indices, 1024)):  # map() queues all it is given at once
            yield from pool.map(attempt, chunk)


def _file_size(path: str) -> int:
    try:
        found = os.stat(path)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
