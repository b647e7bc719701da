"""Folders of images: one folder a class, unlabelled images anywhere below a root, or shards."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from graphkd.data.class_names import ClassNames, name_folders
from graphkd.data.shards import SHARD, ShardSource
from graphkd.data.sources import FileSource
from graphkd.errors import DataError, OptionError
from graphkd.paths import local_path

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class ImageFolderSource(FileSource):
    """One folder a class; images may lie deeper in it.

    Args:
        root: folder of class folders.
        classes: names in the order of the labels, or a mapping from folder to name; default: the folders' own names,
            sorted, and ImageNet's for WordNet ids.

    Raises: DataError for a missing folder, a class without an image, and names that do not fit the folders.

    Example: ``ImageFolderSource("photos/train")`` for ``photos/train/polar_bear/1.jpg`` has class ``polar bear``
    """

    def __init__(self, root: str | Path, classes: ClassNames | None = None) -> None:
        folders = [path.name for path in _folders(root)]
        if not folders:
            raise DataError(f"{root} holds no class folder: expected one folder a class, or use FlatFolderSource")
        names = name_folders(folders, classes)
        root = local_path(root)
        found = sorted((image, label) for label, name in enumerate(names) for image in _class_images(root, name))
        super().__init__(root, [image for image, _ in found], [label for _, label in found], list(names.values()))


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
        names = classes.values() if isinstance(classes, Mapping) else classes
        super().__init__(root, found, None, None if names is None else list(names))


def open_folder(
    root: str | Path, classes: ClassNames | None = None, layout: Literal["auto", "classes", "flat", "shards"] = "auto"
) -> FileSource | ShardSource:
    """A folder of images, by its layout: class folders give labels, loose images give none, shards may have some.

    Args:
        root: folder.
        classes: class names, see :class:`ImageFolderSource`, :class:`FlatFolderSource` and
            :class:`graphkd.data.shards.ShardSource`.
        layout: ``"auto"`` looks: images in ``root`` itself are loose images, folders with images are classes, tar files
            in ``root`` are shards.

    Raises: DataError for a missing or empty folder, and for one whose layout can be read in two ways.

    Example: ``open_folder("photos", read_class_names("names.txt"))``
    """
    if layout not in ("auto", "classes", "flat", "shards"):
        raise OptionError(f"expected layout 'auto', 'classes', 'flat' or 'shards', found {layout!r}")
    if layout == "auto":
        layout = _layout(_existing(root))
    if layout == "shards":
        return ShardSource(_existing(root), classes)
    return ImageFolderSource(root, classes) if layout == "classes" else FlatFolderSource(root, classes)


def _layout(root: Path) -> Literal["classes", "flat", "shards"]:
    tars = any(entry.is_file() and entry.name.endswith(SHARD) for entry in os.scandir(root))
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
    if with_images and len(folders) == 1:
        raise DataError(
            f"{root} holds a single folder of images, {with_images[0]!r}, and one class is nothing to learn: "
            "pass that folder, or layout='flat' for unlabelled images"
        )
    return "classes" if with_images else "flat"


def _class_images(root: Path, folder: str) -> list[str]:
    found = list(_images(root / folder, root))
    if not found:
        raise DataError(f"class folder {root / folder} holds no image: add images or remove the folder")
    return found


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
