"""Public data sets as sources: torchvision's, and the digits that ship inside scikit-learn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphkd.data.class_names import Classes, prompt_name
from graphkd.data.decoding import MAX_MEGAPIXELS
from graphkd.data.sources import ArraySource, FileSource
from graphkd.errors import DataError
from graphkd.files import local_path
from graphkd.models.installed import imagenet_names
from graphkd.registry import unknown

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _named(*splits: str, **other: str) -> dict[str, dict[str, Any]]:
    return {name: {"split": theirs} for name, theirs in {**{split: split for split in splits}, **other}.items()}


_CIFAR = {"train": {"train": True}, "test": {"train": False}}
_SETS: dict[str, tuple[str, Mapping[str, Mapping[str, Any]]]] = {  # class in torchvision, its splits by our names
    "caltech101": ("Caltech101", {"all": {}}),
    "cifar10": ("CIFAR10", _CIFAR),
    "cifar100": ("CIFAR100", _CIFAR),
    "dtd": ("DTD", _named("train", "val", "test")),
    "flowers102": ("Flowers102", _named("train", "val", "test")),
    "food101": ("Food101", _named("train", "test")),
    "imagenet": ("ImageNet", _named("train", test="val")),
    "oxford_pets": ("OxfordIIITPet", _named(train="trainval", test="test")),
    "stl10": ("STL10", _named("train", "test", "unlabeled")),
}
TORCHVISION = tuple(_SETS)
SPLITS = {name: tuple(splits) for name, (_, splits) in _SETS.items()}
"""The splits of each data set: the one to train on first."""


def torchvision_source(
    name: str,
    root: str | Path,
    split: str | None = None,
    download: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> FileSource | ArraySource:
    """One of torchvision's data sets.

    Args:
        name: one of ``TORCHVISION``.
        root: where torchvision keeps it.
        split: one of ``SPLITS[name]``; default: the first, ``"train"`` or ``"all"``.
        download: let torchvision fetch it; ImageNet cannot be fetched.
        max_megapixels: see :class:`graphkd.data.sources.FileSource`.

    Raises:
        UnknownNameError for a name or split that does not exist.
        DataError where the files are not there; the message says how to get them.

    Example: ``torchvision_source("cifar100", "data", "test")``
    """
    from torchvision import datasets

    if name not in _SETS:
        raise unknown("data set", name, list(TORCHVISION))
    split = split or SPLITS[name][0]
    if split not in SPLITS[name]:
        raise unknown(f"split of {name}", split, list(SPLITS[name]))
    kind, splits = _SETS[name]
    options = dict(splits[split])
    if name != "imagenet":
        options["download"] = download
    try:
        data = getattr(datasets, kind)(str(local_path(root)), **options)
    except (RuntimeError, OSError) as error:
        raise DataError(f"{name} ({split}) is not complete in {root} ({error}): {_remedy(name, download)}") from error
    return _from_arrays(data) if hasattr(data, "data") else _from_files(data, max_megapixels)


def _remedy(name: str, download: bool) -> str:
    """How the files of a data set are had."""
    if name == "imagenet":
        return "get ILSVRC2012's archives from image-net.org and put them there; unpacked, it opens as a folder too"
    if download:
        return "run it again where there is a network, or copy the folder from a machine that has it"
    return "give download=True where there is a network, or copy the folder from a machine that has it"


def _from_arrays(data: Any) -> ArraySource:
    """CIFAR [n, h, w, 3] with ``targets``, STL-10 [n, 3, h, w] with ``labels``."""
    images = data.data if data.data.shape[-1] == 3 else np.ascontiguousarray(data.data.transpose(0, 2, 3, 1))
    targets = getattr(data, "targets", None)
    return ArraySource(images, data.labels if targets is None else targets, _named_as(data.classes))


def _from_files(data: Any, max_megapixels: float) -> FileSource:
    """Sets of files: torchvision lists paths and labels under a handful of names, so that ours reads the images."""
    root = Path(data.root)
    paths: Sequence[Any]
    if hasattr(data, "samples"):  # ImageNet
        known = imagenet_names()
        paths, targets = zip(*data.samples, strict=True)
        classes = Classes({wnid: known[wnid] for wnid in data.wnids})
    elif hasattr(data, "categories"):  # Caltech-101
        folder = root / "101_ObjectCategories"
        paths = [folder / data.categories[y] / f"image_{i:04d}.jpg" for y, i in zip(data.y, data.index, strict=True)]
        targets, classes = data.y, _named_as(data.categories)
    else:  # Food-101, Flowers-102, DTD; the pets keep their paths under another name
        paths = data._images if hasattr(data, "_images") else data._image_files
        targets, classes = data._labels, _named_as(data.classes)
    ids = [Path(path).relative_to(root).as_posix() for path in paths]
    return FileSource(root, ids, list(targets), classes, max_megapixels)


def _named_as(names: Sequence[str]) -> Classes:
    """The set's own names as ids, and as they stand in a sentence."""
    return Classes({name: prompt_name(name) for name in names})


def digits_source() -> ArraySource:
    """The 1797 handwritten digits of scikit-learn: real grey images of 8 x 8 pixels, ten classes named in words.

    Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI 1998 (its test part).

    Example: ``digits_source().image(0).size`` is ``(8, 8)``
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    return ArraySource(np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target, DIGITS)
