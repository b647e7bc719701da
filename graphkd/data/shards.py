"""Images in tar files, as webdataset writes them: read where they lie, by offset, in any order."""

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from graphkd.data.class_names import Classes, ClassNames, name_folders
from graphkd.data.decoding import MAX_MEGAPIXELS, SUFFIXES, UNREAD, decoded, largest_file, positive, tell_unread
from graphkd.data.sources import LabelledSource
from graphkd.errors import DataError
from graphkd.files import local_path
from graphkd.text import open_regular

SHARD, LABELS = ".tar", ("cls", "json")
_LARGEST_LABEL = 1 << 20  # bytes
_KEYS = ("cls", "label", "class_id", "target")  # where a json file keeps the label
_NUMBER = re.compile("[0-9]{1,9}")
_NO_NAME = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)  # a number, even if no label is one
_BLOCK = 512


class ShardSource(LabelledSource):
    """A folder of uncompressed tar files whose members ``KEY.jpg``, ``KEY.cls``, ``KEY.json`` make one sample each.

    Headers are read once, nothing is unpacked: a sample is a place in a file, so the order of an epoch, the share of a
    rank and an exact resumption are those of any other source. Its id is ``shard.tar/KEY``.

    A label is a number from 0, a class name or an id; -1 means that there is none.

    Args:
        root: folder of the shards, searched to the bottom.
        classes: names, index = label, or a mapping from id to name; ``cls`` files hold numbers, ids or names. Default:
            the distinct names in them, sorted, ImageNet's for WordNet ids, or none where they hold numbers.
        max_megapixels: most pixels of an image that is decoded, in millions; see
            :func:`graphkd.data.decoding.decoded`.

    Raises: DataError for no shard, one that is no regular file, compressed, damaged or cut off, a label without an
        image, several images of one key in a shard, a label that is none, and from :meth:`image` for an unreadable
        image.

    Example: ``ShardSource("shards", classes=names)``
    """

    def __init__(
        self, root: str | Path, classes: ClassNames | None = None, max_megapixels: float = MAX_MEGAPIXELS
    ) -> None:
        self.root, self.max_megapixels = local_path(root), positive(max_megapixels)
        self.shards = sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob(f"*{SHARD}"))
        if not self.shards:
            raise DataError(f"{root} holds no shard: expected files that end in {SHARD}")
        ids, sizes, places, labels = [], [], [], []
        unread: Counter[str] = Counter()
        for number, shard in enumerate(self.shards):
            for key, (image, label) in _samples(self.root / shard, largest_file(max_megapixels), unread).items():
                ids.append(f"{shard}/{key}")
                sizes.append(image.size)
                places.append((number, image.offset_data))
                labels.append(label)
        tell_unread(root, unread)
        if not ids:
            raise DataError(f"the shards in {root} hold no image: expected members such as 000001.jpg and 000001.cls")
        names, targets = _numbered(labels, ids, classes)
        super().__init__(f"shards in {root}", ids, targets, names)
        self.sizes: Sequence[int] = sizes
        self._places = np.array(places, dtype=np.int64)

    def image(self, index: int) -> Image.Image:
        """The member decoded to RGB, upright. Raises: DataError that names it."""
        return decoded(BytesIO(self._bytes(index)), str(self.root / self.ids[index]), self.max_megapixels)

    def content_hash(self, index: int) -> str:
        """SHA-256 of the image's bytes."""
        return hashlib.sha256(self._bytes(index)).hexdigest()

    def written(self, index: int) -> int:
        """When the image's shard was last written, in ns since 1970."""
        number, _ = self._places[index]
        path: Path = self.root / self.shards[number]
        return path.stat().st_mtime_ns

    def _bytes(self, index: int) -> bytes:
        number, offset = self._places[index]
        path, size = self.root / self.shards[number], self.sizes[index]
        try:
            with open_regular(path) as file:
                file.seek(offset)
                found = file.read(size)
        except OSError as error:
            raise DataError(f"cannot read image {path}: {error}") from error
        if len(found) < size:
            raise DataError(f"{path} has become shorter since it was opened: restore it")
        return found


def _samples(shard: Path, largest: int, unread: Counter[str]) -> dict[str, tuple[tarfile.TarInfo, str | None]]:
    """Key -> image and text of the label; images in formats that are not read are counted."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, str] = {}
    with _opened(shard) as file:
        for member in _members(shard, file):
            folder, _, base = member.name.removeprefix("./").rpartition("/")
            stem, _, suffix = base.partition(".")
            key, suffix = f"{folder}/{stem}".lstrip("/"), suffix.lower()
            if f".{suffix}" in UNREAD:
                unread[f".{suffix}"] += 1
            elif f".{suffix}" in SUFFIXES:
                if key in images:
                    raise DataError(f"{shard}: the sample {key!r} has several images or occurs twice: one is expected")
                _check_size(shard, member, "image", largest)
                images[key] = member
            elif suffix in LABELS:
                _check_size(shard, member, "label", _LARGEST_LABEL)
                file.seek(member.offset_data)  # tarfile finds its own place again
                text = file.read(member.size).decode("utf-8", "replace")
                found = _label(text, suffix, f"{shard}: {member.name}")
                if found is not None and (suffix == "cls" or key not in labels):
                    labels[key] = found
    alone = sorted(labels.keys() - images.keys())
    if alone:
        raise DataError(f"{shard}: {len(alone)} samples have a label and no image ({', '.join(alone[:3])}): write both")
    return {key: (image, labels.get(key)) for key, image in images.items()}


def _opened(shard: Path) -> BinaryIO:
    try:
        return open_regular(shard)
    except OSError as error:
        raise DataError(f"cannot read shard {shard} ({error}): restore or remove it") from error


def _members(shard: Path, file: Any) -> Iterator[tarfile.TarInfo]:
    """The regular files of an uncompressed archive, all of which must be there."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    yield member
                setattr(archive, "members", [])  # noqa: B010  # tarfile would keep them all
            file.seek(archive.offset)
            rest = file.read(_BLOCK)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{shard} is no uncompressed tar file, or it is cut off ({error}): restore it; unpack a compressed one"
        ) from error
    if rest.strip(b"\0"):  # tarfile takes a header that it cannot read for the end
        raise DataError(f"{shard} is damaged at byte {archive.offset}: restore it")


def _check_size(shard: Path, member: tarfile.TarInfo, kind: str, largest: int) -> None:
    if member.size > largest:
        raise DataError(f"{shard}: {member.name} has {member.size} bytes, expected at most {largest} for one {kind}")


def _label(text: str, suffix: str, where: str) -> str | None:
    """The label in a ``cls`` or ``json`` file, as text; ``None`` where it has none, or says so by -1."""
    label = text.strip()
    if suffix == "json":
        try:
            found = json.loads(text, parse_float=str)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is no JSON ({error}): repair or remove it") from error
        value = next((found[key] for key in _KEYS if key in found), None) if isinstance(found, dict) else found
        label = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return None if label in ("", "-1") else label


def _numbered(
    labels: list[str | None], ids: Sequence[str], names: ClassNames | None
) -> tuple[Classes | None, "np.ndarray[Any, Any]"]:
    """Class names and labels, -1 where there is none."""
    written = sorted(
        {label for label in labels if label is not None and not (label.isdigit() or _NO_NAME.fullmatch(label))}
    )
    if names is None and written:
        names = name_folders(written)
    classes = None if names is None else Classes(names)
    fits = {} if classes is None else classes.fitting({label for label in labels if label is not None})
    index = {label: min(numbers) for label, numbers in fits.items() if len(numbers) == 1}
    targets = np.full(len(labels), -1, dtype=np.int64)
    for at, label in enumerate(labels):
        if label is None:
            continue
        number = index.get(label, int(label) if _NUMBER.fullmatch(label) else -1)
        if number < 0 or (classes is not None and number >= len(classes)):
            fault = "no number of at most 9 digits: write whole numbers from 0, names, or -1 for no label"
            if classes is not None:
                fault = f"none of {len(classes)} class names: give the names that the shards were written with"
            raise DataError(f"{ids[at]} has the label {label[:40]!r}, which is {fault}")
        targets[at] = number
    return classes, targets
