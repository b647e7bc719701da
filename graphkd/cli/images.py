"""The images and views that the options of a command name."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch

from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError
from graphkd.cli.parts import Images
from graphkd.data.class_names import ClassNames, read_class_names
from graphkd.data.datasets import TORCHVISION, digits_source, torchvision_source
from graphkd.data.folders import open_folder
from graphkd.data.source import ImageSource, Transform
from graphkd.data.sources import readable, source_subset
from graphkd.data.transforms import CenterView, RandomCropView, RandomResizedCropView

Part = Literal["train", "test"]
_TESTS = ("val", "valid", "validation", "test")
_SMALL = 64  # pixels up to which images are cropped with a border, as CIFAR's are


class Parts(NamedTuple):
    """Images of a training run.

    Args:
        whole: all of ``--data``: what a store holds.
        train: to train on.
        scored: labelled ones to score on, if there are any.
    """

    whole: ImageSource
    train: ImageSource
    scored: ImageSource | None


def open_images(
    images: Images, console: Console, part: Part = "train", classes: ClassNames | None = None
) -> ImageSource:
    """All images of a part.

    Args:
        part: of a data set, or of a folder that holds train/ and val/ (or test/).
        classes: names to expect, where ``--classes`` names none.
    """
    folder = Path(images.data).expanduser()
    if not folder.is_dir():
        if images.data in TORCHVISION:
            return torchvision_source(images.data, images.root, part, max_megapixels=images.max_megapixels)
        return digits_source()
    names: ClassNames | None = classes if images.classes is None else read_class_names(images.classes)
    inner = _inner(folder, ("train",) if part == "train" else _TESTS)
    source: ImageSource = open_folder(inner, names, images.layout, images.max_megapixels)
    if images.on_error == "stop":
        return source
    source, skipped = readable(source, on_error="skip")
    if skipped:
        console.remark(f"left out {len(skipped)} images that cannot be read: {', '.join(skipped[:5])}")
    return source


def open_parts(images: Images, val: Path | None, held_out: float, console: Console) -> Parts:
    """What to train on and what to score on: a folder or data set of its own, else a share of the labelled images."""
    whole = open_images(images, console)
    folder = Path(images.data).expanduser()
    if val is None and folder.is_dir() and _inner(folder, ("train",)) != folder:
        found = _inner(folder, _TESTS)
        val = None if found == folder else found
    if val is not None:
        given = None if images.classes is None else read_class_names(images.classes)
        scored = open_folder(val, given or whole.classes, max_megapixels=images.max_megapixels)
        return Parts(whole, whole, scored)
    if images.data in TORCHVISION and not folder.is_dir():
        limit = images.max_megapixels
        return Parts(whole, whole, torchvision_source(images.data, images.root, "test", max_megapixels=limit))
    kept = int(len(whole) * held_out)
    if whole.target(0) is None or kept == 0:
        return Parts(whole, whole, None)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0)).tolist()
    return Parts(whole, source_subset(whole, sorted(order[kept:])), source_subset(whole, sorted(order[:kept])))


def require_classes(source: ImageSource) -> list[str]:
    """The class names. Raises: UsageError where there are none."""
    if source.classes is None:
        raise UsageError(
            "loose images have no class names, and the network needs them",
            "give --classes names.txt, one name a line, or put the images into one folder a class",
        )
    return list(source.classes)


def require_labels(source: ImageSource, why: str) -> None:
    """Raises: UsageError for images without labels."""
    if source.target(0) is None:
        raise UsageError(
            f"{why} needs labelled images, and these have none",
            "give a folder with one folder a class; of one class alone, the folder above",
        )


def training_view(size: int, augment: str, flip: bool) -> Transform:
    """The student's view of an image in training."""
    if augment == "auto":
        augment = "crop" if size <= _SMALL else "resized"
    if augment == "none":
        return CenterView(size)
    return RandomCropView(size, flip=flip) if augment == "crop" else RandomResizedCropView(size, flip=flip)


def _inner(folder: Path, names: tuple[str, ...]) -> Path:
    return next((folder / name for name in names if (folder / name).is_dir()), folder)
