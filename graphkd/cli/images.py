"""The images and views that the options of a command name."""

from collections.abc import Iterable

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.first_look import image_data as image_data
from graphkd.cli.option_groups import Running
from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource
from graphkd.data.transforms import CenterView, RandomCropView, RandomResizedCropView, Transform
from graphkd.data.views import Batch, Views

_SMALL = 64  # pixels up to which images are cropped with a border, as CIFAR's are


def require_classes(source: ImageSource) -> Classes:
    """The classes. Raises: UsageError where there are none."""
    require(
        source.classes is not None,
        "loose images have no class names, and the network needs them",
        "give --classes names.txt, one name a line, or put the images into one folder a class",
    )
    return Classes(source.classes or ())


def require_labels(source: ImageSource, why: str) -> None:
    """Raises: UsageError for images without labels."""
    require(
        source.target(0) is not None,
        f"{why} needs labelled images, and these have none",
        "give a folder with one folder a class; of one class alone, the folder above",
    )


def labelled_batches(source: ImageSource, view: Transform, running: Running, console: Console) -> Iterable[Batch]:
    """Labelled images in order, under a bar. Raises: UsageError for images without labels."""
    require_labels(source, "scoring")
    views = Views(source, student=view, labels=True)
    loader = views.loader(running.batch_size, shuffle=False, drop_last=False, workers=running.workers)
    return console.bar(loader, len(loader), "scoring")


def random_view(view: Transform, augment: str, flip: bool) -> Transform:
    """A random view of the size of another."""
    side = view.spec["size"]
    return training_view(side if isinstance(side, int) else max(side), augment, flip)


def training_view(size: int, augment: str, flip: bool) -> Transform:
    """The student's view of an image in training."""
    if augment == "auto":
        augment = "crop" if size <= _SMALL else "resized"
    if augment == "none":
        return CenterView(size)
    return RandomCropView(size, flip=flip) if augment == "crop" else RandomResizedCropView(size, flip=flip)
