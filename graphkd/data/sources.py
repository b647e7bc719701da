"""Images from files and from arrays, parts of a source, and a check that every image can be read."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from graphkd.data.decoding import MAX_MEGAPIXELS, decoded, positive
from graphkd.data.source import ImageSource
from graphkd.errors import DataError, OptionError
from graphkd.files import local_path
from graphkd.text import open_regular


class FileSource:
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
        _check(f"folder {root}", len(ids), targets, classes)
        self.root = local_path(root)
        self.ids: Sequence[str] = ids
        self.classes: Sequence[str] | None = classes
        self.max_megapixels = positive(max_megapixels)
        self._targets = None if targets is None else np.asarray(targets)

    def __len__(self) -> int:
        return len(self.ids)

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

    def target(self, index: int) -> int | None:
        """The label, or ``None``."""
        return None if self._targets is None else int(self._targets[index])

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


class ArraySource:
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
        _check("array", len(images), targets, classes)
        self.images = images
        self.classes: Sequence[str] | None = classes
        self.ids: Sequence[str] = [str(index) for index in range(len(images))]
        self.sizes: Sequence[int] = [images[0].nbytes] * len(images)
        self._targets = None if targets is None else np.asarray(targets)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image.Image:
        """The pixels as an RGB image."""
        return Image.fromarray(self.images[index]).convert("RGB")

    def target(self, index: int) -> int | None:
        """The label, or ``None``."""
        label = -1 if self._targets is None else int(self._targets[index])
        return label if label >= 0 else None

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
    errors: list[DataError] = []
    good: list[int] = []
    skipped: list[str] = []
    for index, error in enumerate(_decoding_errors(source, workers)):
        if error is None:
            good.append(index)
            continue
        if on_error == "stop":
            raise error
        errors.append(error)
        skipped.append(source.ids[index])
    if len(skipped) > max_share * len(source) or not good:
        raise DataError(
            f"{len(skipped)} of {len(source)} images cannot be read, at most a share of {max_share:g} may be skipped: "
            f"repair or remove them; the first is {skipped[0]} ({errors[0].__cause__ or errors[0]})"
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


def _check(what: str, count: int, targets: Any, classes: Sequence[str] | None) -> None:
    if count == 0:
        raise DataError(f"{what} holds no image: at least one is needed")
    if targets is not None and len(targets) != count:
        raise DataError(f"{what}: {count} images and {len(targets)} labels: each image needs one")
    if targets is not None and classes is not None and max(targets) >= len(classes):
        raise DataError(f"{what}: label {max(targets)} has no name among {len(classes)} classes")
