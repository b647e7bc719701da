"""Folders of images: one folder a class, unlabelled images anywhere below a root, shards; and lists of images."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import Literal

from graphkd.data.class_names import WORDNET_ID, Classes, ClassNames, name_folders, read_rows
from graphkd.data.decoding import MAX_MEGAPIXELS, SUFFIXES, UNREAD, tell_unread
from graphkd.data.fingerprint import some
from graphkd.data.shards import SHARD, ShardSource
from graphkd.data.sources import FileSource
from graphkd.errors import DataError, OptionError
from graphkd.files import local_path
from graphkd.text import read_text

log = logging.getLogger("graphkd")
_TINY_LABELS, _WORDS = "val_annotations.txt", "words.txt"  # of TinyImageNet
_LIST = 1 << 32  # bytes of a list of paths
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class ImageFolderSource(FileSource):
    """One folder a class; images may lie deeper in it. Or TinyImageNet's ``val/``, which keeps its labels in a file.

    Args:
        root: folder of class folders.
        classes: names in the order of the labels, or a mapping from folder to name; a class need not have images here.
            Default: the folders' own names, sorted, and ImageNet's for WordNet ids.
        allow_empty: whether a folder without an image is a class also where no classes are given.

    Raises: DataError for a missing folder, a folder that is none of the classes, one without an image, and, where no
        classes are given, for folders that read like codes.

    Example: ``ImageFolderSource("photos/train")`` for ``photos/train/polar_bear/1.jpg`` has class ``polar bear``
    """

    def __init__(
        self,
        root: str | Path,
        classes: ClassNames | None = None,
        *,
        allow_empty: bool = False,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        folder, seen = _existing(root), _Seen()
        images = _images_by_class(folder, seen)
        seen.tell(root)
        if not images:
            raise DataError(f"{root} holds no class folder: expected one folder a class, or use FlatFolderSource")
        empty = next((name for name, found in images.items() if not found), None)
        if empty is not None and classes is None and not allow_empty:
            raise DataError(f"class folder {folder / empty} holds no image: add images or remove the folder")
        names = name_folders(list(images), classes, _words(folder, images))
        labels = {image: label for label, name in enumerate(names) for image in images.get(name, ())}
        ids = sorted(labels)
        super().__init__(folder, ids, [labels[image] for image in ids], Classes(names), max_megapixels)


class FlatFolderSource(FileSource):
    """Unlabelled images anywhere below a root.

    Args:
        root: folder.
        classes: names a teacher shall tell apart, if any; a mapping's folders are not looked at. A class without an
            image is fine: nobody can see it here.

    Raises: DataError for a missing folder or one without images.
    """

    def __init__(
        self, root: str | Path, classes: ClassNames | None = None, *, max_megapixels: float = MAX_MEGAPIXELS
    ) -> None:
        folder, seen = _existing(root), _Seen()
        found = sorted(_images(folder, folder, seen))
        seen.tell(root)
        if not found:
            raise DataError(f"{root} holds no image: expected files that end in {', '.join(sorted(SUFFIXES))}")
        super().__init__(folder, found, None, None if classes is None else Classes(classes), max_megapixels)


def open_folder(
    root: str | Path,
    classes: ClassNames | None = None,
    layout: Literal["auto", "classes", "flat", "shards"] = "auto",
    *,
    allow_empty: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> FileSource | ShardSource:
    """A folder of images, by its layout: class folders give labels, loose images give none, shards may have some.

    Args:
        root: folder.
        classes: class names, see :class:`ImageFolderSource`, :class:`FlatFolderSource` and
            :class:`graphkd.data.shards.ShardSource`.
        layout: ``"auto"`` looks: images in ``root`` itself are loose images, folders with images are classes, tar files
            in ``root`` are shards.
        allow_empty: see :class:`ImageFolderSource`.
        max_megapixels: see :class:`graphkd.data.sources.FileSource`.

    Links are followed, and each real folder is read once, in a class or in the whole of loose images. What is left out
    is said in the log: folders that were read already, images in formats that are not read.

    Raises: DataError for a missing or empty folder, and for one whose layout can be read in two ways.

    Example: ``open_folder("photos", read_class_names("names.txt"))``
    """
    if layout not in ("auto", "classes", "flat", "shards"):
        raise OptionError(f"expected layout 'auto', 'classes', 'flat' or 'shards', found {layout!r}")
    if layout == "auto":
        layout = _layout(_existing(root), named=classes is not None)
    if layout == "shards":
        return ShardSource(_existing(root), classes, max_megapixels)
    if layout == "classes":
        return ImageFolderSource(root, classes, allow_empty=allow_empty, max_megapixels=max_megapixels)
    return FlatFolderSource(root, classes, max_megapixels=max_megapixels)


def split_folder(root: Path, names: Sequence[str]) -> Path:
    """The folder of a split, such as ``train/``, in a folder that holds splits; any other folder is its own.

    Beside other folders, one called ``train`` that holds nothing but loose images is a class: locomotives.
    """
    folders = {path.name.casefold(): path for path in _folders(root)}
    found = next((folders[name] for name in names if name in folders), None)
    if found is None:
        return root
    others = folders.keys() - {found.name.casefold()}
    is_class = bool(others) and not others & _SPLITS and not _folders(found) and not has_shards(found)
    return root if is_class else found


def _layout(root: Path, named: bool) -> Literal["classes", "flat", "shards"]:
    if (root / _TINY_LABELS).is_file():
        return "classes"
    with _entries(root) as found:
        entries = list(found)
    folders = _folders_among(entries)
    real = os.path.realpath(root)
    with_images = [folder.name for folder in folders if next(_images(folder, root, _Seen(real)), None)]
    tars = any(map(_is_shard, entries))
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
    if with_images and len(folders) == 1 and not named:
        raise DataError(
            f"{root} holds a single folder of images, {with_images[0]!r}, and one class is nothing to learn: "
            "pass that folder, or layout='flat' for unlabelled images"
        )
    return "classes" if with_images else "flat"


def open_list(
    path: str | Path, classes: ClassNames | None = None, *, max_megapixels: float = MAX_MEGAPIXELS
) -> FileSource:
    """Unlabelled images that a text file names, a path a line, relative to the current folder.

    Args:
        path: the file, UTF-8; empty lines do not count.
        classes: names a teacher shall tell apart, if any.

    Raises: DataError for a file that is no such list, names no image or one twice.
    Example: ``open_list("list.txt")``, a file that ``graphkd select`` wrote
    """
    try:
        lines = read_text(local_path(path), _LIST).splitlines()
    except (OSError, ValueError) as error:
        what = f"{path} is neither an image nor a text file of paths ({error})"
        raise DataError(f"{what}: give a folder, an image, or a UTF-8 text file with a path a line") from error
    names = [os.path.normpath(line.strip()) for line in lines if line.strip()]
    if not names or len(set(names)) < len(names):
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        what = f"{path} names no image" if twice is None else f"{path} names {twice} twice"
        raise DataError(f"{what}: write the path of an image a line, each once")
    return FileSource(".", names, None, None if classes is None else Classes(classes), max_megapixels)


def has_shards(root: Path) -> bool:
    """Whether tar files lie in a folder."""
    with _entries(root) as entries:
        return any(map(_is_shard, entries))


def _is_shard(entry: "os.DirEntry[str]") -> bool:
    return entry.name.endswith(SHARD) and _is(entry.is_file)


def _images_by_class(root: Path, seen: "_Seen") -> dict[str, list[str]]:
    if not (root / _TINY_LABELS).is_file():
        return {folder.name: list(_images(folder, root, seen)) for folder in _folders(root)}
    rows = read_rows(root / _TINY_LABELS)
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if short is not None:
        raise DataError(f"{root / _TINY_LABELS} line {short}: expected 'file<TAB>WordNet id': restore the file")
    labels = dict(row[:2] for row in rows)
    images: dict[str, list[str]] = {}
    for image in sorted(_images(root, root, seen)):
        name = image.rpartition("/")[2]
        if name not in labels:
            raise DataError(f"{root / image} has no line in {_TINY_LABELS}: remove the image, or restore the file")
        images.setdefault(labels[name], []).append(image)
    return images


def _words(root: Path, folders: Collection[str]) -> dict[str, str]:
    """What ``words.txt``, in the folder or above it, calls WordNet ids: the first of its words for each."""
    path = next((path for path in (root / _WORDS, root.parent / _WORDS) if path.is_file()), None)
    if path is None or not any(map(WORDNET_ID.fullmatch, folders)):
        return {}
    return {row[0]: row[1].partition(",")[0] for row in read_rows(path) if len(row) > 1}


@dataclass
class _Seen:
    """What a listing met, beside the images that it returns.

    Args:
        root: where the root really lies, once it was asked for.
        folders: real folder -> where it was read first.
        again: linked folders that lead to one which was read already, or to one above themselves; they are left out.
        shared: folders of two classes that are one: its images count in both.
        broken: images that lead nowhere or are no regular files; they are listed, and fail when they are read.
        unread: images in formats that are not read, by suffix.
    """

    root: str | None = None
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
    """Paths of the images below the root or one of its folders, relative to the root, in no order; no hidden files.

    Links are followed after all real folders were read, so that an image keeps its own path where it has one.
    """
    seen = _Seen() if seen is None else seen
    seen.root = seen.root or os.path.realpath(root)
    start = "" if folder == root else f"{folder.name}/"
    linked = bool(start) and folder.is_symlink()
    # whether it is a link, its path, and where it really lies, or of a link the folder that holds it
    ahead = [(linked, start, seen.root if linked else f"{seen.root}/{start}".rstrip("/"))]
    read: set[str] = set()
    while ahead:
        linked, below, above = heappop(ahead)
        real = os.path.realpath(root / below) if linked else above
        if real in read or (linked and os.path.commonpath([real, above]) == real):
            seen.again.append(below.rstrip("/"))
            continue
        read.add(real)
        first = seen.folders.setdefault(real, below)
        if first != below:
            seen.shared.append(f"{first.rstrip('/')} = {below.rstrip('/')}")
        with _entries(f"{root}/{below}") as entries:
            yield from _listed(entries, below, real, seen, ahead)


def _listed(
    entries: Iterable["os.DirEntry[str]"], below: str, real: str, seen: _Seen, ahead: list[tuple[bool, str, str]]
) -> Iterator[str]:
    """The images of one folder; the folders in it, and the links to folders, are added to ``ahead``."""
    for entry in entries:
        name = entry.name
        if name[0] == ".":
            continue
        suffix = name[name.rfind(".") :].lower()
        if suffix in SUFFIXES and entry.is_file(follow_symlinks=False):  # most entries: nothing else is asked
            yield below + name
        elif entry.is_dir(follow_symlinks=False):
            heappush(ahead, (False, f"{below}{name}/", f"{real}/{name}"))
        elif entry.is_symlink() and _is(entry.is_dir):
            heappush(ahead, (True, f"{below}{name}/", real))
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
    folders = [entry for entry in others if not entry.name.startswith(".") and _is(entry.is_dir)]
    return [Path(entry.path) for entry in sorted(folders, key=lambda entry: entry.name)]


def _existing(root: str | Path) -> Path:
    path = local_path(root)
    if not path.is_dir():
        raise DataError(f"expected a folder of images at {path}, found " + ("a file" if path.exists() else "nothing"))
    return path


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in SUFFIXES and not name.startswith(".")
