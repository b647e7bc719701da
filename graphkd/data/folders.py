"""Folders of images: one folder a class, unlabelled images anywhere below a root, or shards."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

from graphkd.data.class_names import WORDNET_ID, Classes, ClassNames, name_folders, read_rows
from graphkd.data.shards import SHARD, ShardSource
from graphkd.data.sources import FileSource
from graphkd.errors import DataError, OptionError
from graphkd.paths import local_path

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_TINY_LABELS, _WORDS = "val_annotations.txt", "words.txt"  # of TinyImageNet
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

    def __init__(self, root: str | Path, classes: ClassNames | None = None, allow_empty: bool = False) -> None:
        images = _images_by_class(_existing(root))
        if not images:
            raise DataError(f"{root} holds no class folder: expected one folder a class, or use FlatFolderSource")
        empty = next((folder for folder, found in images.items() if not found), None)
        if empty is not None and classes is None and not allow_empty:
            raise DataError(f"class folder {local_path(root) / empty} holds no image: add images or remove the folder")
        names = name_folders(list(images), classes, _words(local_path(root), images))
        found = sorted((image, label) for label, folder in enumerate(names) for image in images.get(folder, ()))
        super().__init__(root, [image for image, _ in found], [label for _, label in found], Classes(names))


class FlatFolderSource(FileSource):
    """Unlabelled images anywhere below a root.

    Args:
        root: folder.
        classes: names a teacher shall tell apart, if any; a mapping's folders are not looked at. A class without an
            image is fine: nobody can see it here.

    Raises: DataError for a missing folder or one without images.
    """

    def __init__(self, root: str | Path, classes: ClassNames | None = None) -> None:
        found = sorted(_images(_existing(root), local_path(root)))
        if not found:
            raise DataError(f"{root} holds no image: expected files that end in {', '.join(SUFFIXES)}")
        super().__init__(root, found, None, None if classes is None else Classes(classes))


def open_folder(
    root: str | Path,
    classes: ClassNames | None = None,
    layout: Literal["auto", "classes", "flat", "shards"] = "auto",
    allow_empty: bool = False,
) -> FileSource | ShardSource:
    """A folder of images, by its layout: class folders give labels, loose images give none, shards may have some.

    Args:
        root: folder.
        classes: class names, see :class:`ImageFolderSource`, :class:`FlatFolderSource` and
            :class:`graphkd.data.shards.ShardSource`.
        layout: ``"auto"`` looks: images in ``root`` itself are loose images, folders with images are classes, tar files
            in ``root`` are shards.
        allow_empty: see :class:`ImageFolderSource`.

    Raises: DataError for a missing or empty folder, and for one whose layout can be read in two ways.

    Example: ``open_folder("photos", read_class_names("names.txt"))``
    """
    if layout not in ("auto", "classes", "flat", "shards"):
        raise OptionError(f"expected layout 'auto', 'classes', 'flat' or 'shards', found {layout!r}")
    if layout == "auto":
        layout = _layout(_existing(root), named=classes is not None)
    if layout == "shards":
        return ShardSource(_existing(root), classes)
    return ImageFolderSource(root, classes, allow_empty) if layout == "classes" else FlatFolderSource(root, classes)


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
    tars = has_shards(root)
    folders = _folders(root)
    with_images = [folder.name for folder in folders if next(_images(folder, root), None)]
    loose = any(entry.is_file() and _is_image(entry.name) for entry in os.scandir(root))
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


def has_shards(root: Path) -> bool:
    """Whether tar files lie in a folder."""
    return any(entry.is_file() and entry.name.endswith(SHARD) for entry in os.scandir(root))


def _images_by_class(root: Path) -> dict[str, list[str]]:
    if not (root / _TINY_LABELS).is_file():
        return {folder.name: list(_images(folder, root)) for folder in _folders(root)}
    rows = read_rows(root / _TINY_LABELS)
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if short is not None:
        raise DataError(f"{root / _TINY_LABELS} line {short}: expected 'file<TAB>WordNet id': restore the file")
    labels = dict(row[:2] for row in rows)
    images: dict[str, list[str]] = {}
    for image in _images(root, root):
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


def _images(folder: Path, root: Path, above: Sequence[Path] = ()) -> Iterator[str]:
    """Paths of the images below a folder, relative to the root; links are followed, hidden files left out."""
    real = folder.resolve()
    if real in above:
        raise DataError(f"{folder} links to a folder above itself: remove the link")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot list folder {folder}: {error.strerror}; check its permissions") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _images(Path(entry.path), root, [*above, real])
        elif _is_image(entry.name):
            yield Path(entry.path).relative_to(root).as_posix()


def _folders(root: str | Path) -> list[Path]:
    return sorted(path for path in _existing(root).iterdir() if path.is_dir() and not path.name.startswith("."))


def _existing(root: str | Path) -> Path:
    path = local_path(root)
    if not path.is_dir():
        raise DataError(f"expected a folder of images at {path}, found " + ("a file" if path.exists() else "nothing"))
    return path


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
