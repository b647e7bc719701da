"""Folders of images: one folder a class, unlabelled images anywhere below a root, or shards."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from graphkd.data.class_names import ClassNames, name_folders
from graphkd.data.decoding import MAX_MEGAPIXELS, SUFFIXES, UNREAD, tell_unread
from graphkd.data.fingerprint import some
from graphkd.data.shards import SHARD, ShardSource
from graphkd.data.sources import FileSource
from graphkd.errors import DataError, OptionError

log = logging.getLogger("graphkd")
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class ImageFolderSource(FileSource):
    """One folder a class; images may lie deeper in it.

    Args:
        root: folder of class folders.
        classes: names in the order of the labels, or a mapping from folder to name; default: the folders' own names,
            sorted, and ImageNet's for WordNet ids.
        max_megapixels: see :class:`FileSource`.

    Raises: DataError for a missing folder, a class without an image, and names that do not fit the folders.

    Example: ``ImageFolderSource("photos/train")`` for ``photos/train/polar_bear/1.jpg`` has class ``polar bear``
    """

    def __init__(
        self, root: str | Path, classes: ClassNames | None = None, max_megapixels: float = MAX_MEGAPIXELS
    ) -> None:
        folders = [path.name for path in _folders(root)]
        if not folders:
            raise DataError(f"{root} holds no class folder: expected one folder a class, or use FlatFolderSource")
        names = name_folders(folders, classes)
        label = {folder: number for number, folder in enumerate(names)}
        seen, ids, labels = _Seen(), list[str](), list[int]()
        for folder in sorted(names, key=lambda name: f"{name}/"):  # so that the ids are sorted, too
            found = _class_images(Path(root), folder, seen)
            ids += found
            labels += [label[folder]] * len(found)
        seen.tell(root)
        super().__init__(root, ids, labels, list(names.values()), max_megapixels)


class FlatFolderSource(FileSource):
    """Unlabelled images anywhere below a root.

    Args:
        root: folder.
        classes: names a teacher shall tell apart, if any; a mapping's folders are not looked at. A class without an
            image is fine: nobody can see it here.
        max_megapixels: see :class:`FileSource`.

    Raises: DataError for a missing folder or one without images.
    """

    def __init__(
        self, root: str | Path, classes: ClassNames | None = None, max_megapixels: float = MAX_MEGAPIXELS
    ) -> None:
        seen = _Seen()
        found = sorted(_images(_existing(root), Path(root), seen))
        seen.tell(root)
        if not found:
            raise DataError(f"{root} holds no image: expected files that end in {', '.join(sorted(SUFFIXES))}")
        names = classes.values() if isinstance(classes, Mapping) else classes
        super().__init__(root, found, None, None if names is None else list(names), max_megapixels)


def open_folder(
    root: str | Path,
    classes: ClassNames | None = None,
    layout: Literal["auto", "classes", "flat", "shards"] = "auto",
    max_megapixels: float = MAX_MEGAPIXELS,
) -> FileSource | ShardSource:
    """A folder of images, by its layout: class folders give labels, loose images give none, shards may have some.

    Args:
        root: folder.
        classes: class names, see :class:`ImageFolderSource`, :class:`FlatFolderSource` and
            :class:`graphkd.data.shards.ShardSource`.
        layout: ``"auto"`` looks: images in ``root`` itself are loose images, folders with images are classes, tar files
            in ``root`` are shards.
        max_megapixels: see :class:`graphkd.data.sources.FileSource`.

    Links are followed, and each real folder is read once, in a class or in the whole of loose images. What is left out
    is said in the log: folders that were read already, images in formats that are not read.

    Raises: DataError for a missing or empty folder, and for one whose layout can be read in two ways.

    Example: ``open_folder("photos", read_class_names("names.txt"))``
    """
    if layout not in ("auto", "classes", "flat", "shards"):
        raise OptionError(f"expected layout 'auto', 'classes', 'flat' or 'shards', found {layout!r}")
    if layout == "auto":
        layout = _layout(_existing(root))
    if layout == "shards":
        return ShardSource(_existing(root), classes, max_megapixels)
    kind = ImageFolderSource if layout == "classes" else FlatFolderSource
    return kind(root, classes, max_megapixels)


def _layout(root: Path) -> Literal["classes", "flat", "shards"]:
    with _entries(root) as found:
        entries = list(found)
    folders = _folders_among(entries)
    with_images = [folder.name for folder in folders if next(_images(folder, root), None)]
    tars = any(entry.name.endswith(SHARD) and _is(entry.is_file) for entry in entries)
    loose = any(_is_image(entry.name) and not _is(entry.is_dir) for entry in entries)
    if tars and not loose and not with_images:
        return "shards"
    if tars:
        raise DataError(f"{root} holds shards and loose images: pass layout='shards' to use the shards only")
    if loose and with_images:
        raise DataError(
            f"{root} holds loose images and folders of images ({', '.join(with_images[:5])}): "
            "pass layout='flat' to use all of them without labels, or layout='classes' to use the folders only"
        )
    if with_images and {name.casefold() for name in with_images} <= _SPLITS:
        raise DataError(f"{root} holds splits, not classes: pass one of them, such as {root / with_images[0]}")
    if with_images and len(folders) == 1:
        raise DataError(
            f"{root} holds a single folder of images, {with_images[0]!r}, and one class is nothing to learn: "
            "pass that folder, or layout='flat' for unlabelled images"
        )
    return "classes" if with_images else "flat"


def _class_images(root: Path, folder: str, seen: "_Seen") -> list[str]:
    found = sorted(_images(root / folder, root, seen))
    if not found:
        raise DataError(f"class folder {root / folder} holds no image: add images or remove the folder")
    return found


@dataclass
class _Seen:
    """What a listing met, beside the images that it returns.

    Args:
        folders: real folder -> where it was read first.
        again: linked folders that lead to one which was read already, or to one above themselves; they are left out.
        shared: folders of two classes that are one: its images count in both.
        broken: images that lead nowhere or are no regular files; they are listed, and fail when they are read.
        unread: images in formats that are not read, by suffix.
    """

    folders: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)

    def tell(self, root: str | Path) -> None:
        """One warning for each kind."""
        tell_unread(root, self.unread)
        for what, found in (
            ("linked folders that lead to a folder read already, or above themselves, are left out", self.again),
            ("folders that belong to two classes count in both", self.shared),
            ("images that are no regular files, or lead nowhere, cannot be read", self.broken),
        ):
            if found:
                log.warning("%s: %s: %s", root, what, some(sorted(found)))


def _images(folder: Path, root: Path, seen: _Seen | None = None) -> Iterator[str]:
    """Paths of the images below a folder, relative to the root, in no order; hidden files are left out.

    Links are followed after all real folders were read, so that an image keeps its own path where it has one.
    """
    seen = _Seen() if seen is None else seen
    start = folder.relative_to(root).as_posix()
    ahead = [("", os.path.realpath(root))] if start == "." else []
    links = [] if ahead else [(f"{start}/", os.path.realpath(folder.parent))]
    read: set[str] = set()
    while ahead or links:
        if ahead:
            below, real = ahead.pop()
            left_out = real in read
        else:
            links.sort(reverse=True)
            below, above = links.pop()
            real = os.path.realpath(root / below)
            left_out = real in read or os.path.commonpath([real, above]) == real
        if left_out:
            seen.again.append(below.rstrip("/"))
            continue
        read.add(real)
        first = seen.folders.setdefault(real, below)
        if first != below:
            seen.shared.append(f"{first.rstrip('/')} = {below.rstrip('/')}")
        with _entries(root / below) as entries:
            for entry in entries:
                name = entry.name
                if name[0] == ".":
                    continue
                suffix = name[name.rfind(".") :].lower()
                if suffix in SUFFIXES and entry.is_file(follow_symlinks=False):  # most entries: nothing else is asked
                    yield below + name
                elif entry.is_dir(follow_symlinks=False):
                    ahead.append((f"{below}{name}/", f"{real}/{name}"))
                elif entry.is_symlink() and _is(entry.is_dir):
                    links.append((f"{below}{name}/", real))
                elif suffix in SUFFIXES:
                    if not _is(entry.is_file):
                        seen.broken.append(below + name)
                    yield below + name
                elif suffix in UNREAD:
                    seen.unread[suffix] += 1


def _entries(folder: str | Path) -> "AbstractContextManager[Iterator[os.DirEntry[str]]]":
    try:
        return os.scandir(folder)
    except OSError as error:
        raise DataError(f"cannot list folder {folder}: {error.strerror}; check its permissions") from error


def _is(question: Callable[[], bool]) -> bool:
    """What an entry of a folder says of itself; a link that leads to itself is nothing, too."""
    try:
        return question()
    except OSError:
        return False


def _folders(root: str | Path) -> list[Path]:
    with _entries(_existing(root)) as entries:
        return _folders_among(entries)


def _folders_among(entries: Iterable["os.DirEntry[str]"]) -> list[Path]:
    others = [entry for entry in entries if not entry.is_file(follow_symlinks=False)]  # most are files
    return sorted(Path(entry.path) for entry in others if not entry.name.startswith(".") and _is(entry.is_dir))


def _existing(root: str | Path) -> Path:
    path = Path(root)
    if not path.is_dir():
        raise DataError(f"expected a folder of images at {path}, found " + ("a file" if path.exists() else "nothing"))
    return path


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in SUFFIXES and not name.startswith(".")
