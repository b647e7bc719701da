"""Images by what people call them: a folder, a data set of torchvision, or the digits; to train on and to score on."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from graphkd.data.class_names import Classes, ClassNames, read_class_names
from graphkd.data.datasets import SPLITS, digits_source, torchvision_source
from graphkd.data.decoding import MAX_MEGAPIXELS, SUFFIXES
from graphkd.data.folders import FlatFolderSource, has_shards, open_folder, open_list, split_folder
from graphkd.data.shards import ShardSource
from graphkd.data.sources import FileSource, ImageSource, SourceSubset, readable, source_subset
from graphkd.errors import DataError, OptionError
from graphkd.files import local_path
from graphkd.registry import unknown

Part = Literal["train", "test"]
_MAX_SHARE = 0.01  # of the images
_SHARE, _ENOUGH = 0.2, 2000  # held out without labels; of so many the standard error of a share is at most 1.1 %
_FOLDERS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("val", "valid", "validation", "test", "testing"),
}


class Parts(NamedTuple):
    """Images of a training run.

    Args:
        whole: all that there are to train on: what a store holds.
        train: to train on.
        scored: those to score on, if there are any; their labels, if they have some, count the classes of ``train``.
    """

    whole: ImageSource
    train: ImageSource
    scored: ImageSource | None


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images that are asked for by name, and how to read them.

    Args:
        data: a folder (see :func:`graphkd.data.folders.open_folder`), or one that holds ``train/`` and ``val/``; a text
            file with the path of an image a line; ``"digits"``; or the name of a torchvision data set.
        classes: file of class names, see :func:`graphkd.data.class_names.read_class_names`.
        layout: of a folder.
        root: where torchvision keeps its data sets.
        download: let torchvision fetch the data set where it is not there.
        split: of a torchvision data set; default: ``"train"``, and ``"test"`` to score on.
        on_error: ``"skip"`` leaves out the images that cannot be read, at most 1 % of them or one.
        max_megapixels: most pixels of an image that is decoded, in millions.
        say: takes one line about what is left out or missing.

    Raises: DataError, OptionError and UnknownNameError, from its methods.

    Example: ``whole, train, scored = ImageData(data="imagenet").parts()``
    """

    data: str | Path
    classes: Path | None = None
    layout: Literal["auto", "classes", "flat", "shards"] = "auto"
    root: Path = Path("data")
    download: bool = False
    split: str | None = None
    on_error: Literal["stop", "skip"] = "stop"
    max_megapixels: float = MAX_MEGAPIXELS
    say: Callable[[str], None] = print

    def open(self, part: Part = "train", trained: ClassNames | None = None) -> ImageSource:
        """All images of a part.

        Args:
            part: of a data set, or of a folder that holds splits; any other folder is used whole.
            trained: the classes that a network was trained for: labels count these, whatever the order here. A class
                without an image is fine, an image of another class is not.
        """
        given = None if self.classes is None else read_class_names(self.classes)
        source = self._readable(self._source(part, trained if given is None else given), part)
        if trained is not None:
            source = _relabelled(source, Classes(trained))
        if part == "test" or given is not None or trained is not None:
            self._say_what_is_missing(source, part)
        return source

    def parts(
        self, val: str | Path | None = None, held_out: float | None = None, trained: ClassNames | None = None
    ) -> Parts:
        """What to train on and what to score on.

        Args:
            val: what to score on; default: the ``val/`` of a folder, or the test split of a data set.
            held_out: where there is neither, the share of the labelled images that is kept to score on; default 0.2.
            trained: the classes that the teacher was trained for, if labels are to count these.
        """
        whole = self.open("train", trained)
        if val is not None or self._has_test():
            test = replace(self, data=self.data if val is None else val, split=None)
            folder = test._folder("test")
            # flat would drop the labels, which scoring is about; shards need not lie beside shards
            if self.layout == "flat" or (self.layout == "shards" and folder and not has_shards(folder)):
                test = replace(test, layout="auto")
            scored = test.open("test", whole.classes)
            if scored.target(0) is None and whole.target(0) is not None:
                where = f"{folder or val} holds loose images, and scoring needs their labels"
                raise DataError(f"{where}: put them into one folder a class")
            return Parts(whole, whole, scored)
        kept = int(len(whole) * (_SHARE if held_out is None else held_out))
        if whole.target(0) is None or kept == 0:
            return Parts(whole, whole, None)
        import torch  # here: a folder is read, and refused, without it

        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0)).tolist()
        return Parts(whole, source_subset(whole, sorted(order[kept:])), source_subset(whole, sorted(order[:kept])))

    def parts_of_run(
        self,
        val: str | Path | None = None,
        held_out: float | None = None,
        trained: ClassNames | None = None,
        seed: int = 0,
    ) -> Parts:
        """As :meth:`parts`, and of images without labels a part is held out by :func:`hold_out`.

        Args:
            val, held_out, trained: as for :meth:`parts`.
            seed: of what is held out without labels.
        """
        parts = self.parts(val, held_out, trained)
        if parts.scored is not None or parts.whole.target(0) is not None:
            return parts
        return hold_out(parts.whole, held_out, seed)

    def pixels(self) -> ImageSource:
        """The images to train on where their classes do not matter, not even whether they have names."""
        folder = self._folder("train")
        if folder is None or has_shards(folder):
            return self._readable(self._source("train", None), "train")
        return self._readable(FlatFolderSource(folder, max_megapixels=self.max_megapixels), "train")

    def _readable(self, source: ImageSource, part: Part) -> ImageSource:
        """The images, without those that cannot be read where these are to be skipped."""
        if self.on_error == "stop":
            return source
        # a share of a small folder is less than one image
        source, skipped = readable(source, on_error=self.on_error, max_share=max(_MAX_SHARE, 1 / len(source)))
        if skipped:
            where = self._folder(part) or self.data
            what = "an image" if len(skipped) == 1 else f"{len(skipped)} images"
            self.say(f"left out {what} of {where} that cannot be read: {', '.join(skipped[:5])}")
        return source

    def _folder(self, part: Part) -> Path | None:
        """The folder of a part; ``None`` for a data set."""
        folder = local_path(self.data)
        return split_folder(folder, _FOLDERS[part]) if folder.is_dir() else None

    def _source(self, part: Part, names: ClassNames | None) -> ImageSource:
        folder, name = self._folder(part), str(self.data)
        if folder is not None:
            if self.split is not None:
                raise OptionError(f"split={self.split!r} is for data sets of torchvision, not for the folder {folder}")
            limit = self.max_megapixels
            return open_folder(folder, names, self.layout, allow_empty=part == "test", max_megapixels=limit)
        if name == "digits":
            return digits_source()
        if local_path(name).is_file():
            return open_list(name, names, max_megapixels=self.max_megapixels)
        if name not in SPLITS:
            raise unknown("folder or data set", name, ["digits", *SPLITS])
        split = self.split or (part if part in SPLITS[name] else None)
        return torchvision_source(name, self.root, split, self.download, self.max_megapixels)

    def _has_test(self) -> bool:
        test = self._folder("test")
        if test is None:
            return self.split != "test" and "test" in SPLITS.get(str(self.data), ())
        return test != local_path(self.data) != self._folder("train")

    def _say_what_is_missing(self, source: ImageSource, part: Part) -> None:
        present = _present(source)
        names = Classes(source.classes or ()).distinct
        missing = [name for label, name in enumerate(names) if label not in present]
        if present and missing:
            where = self._folder(part) or self.data
            self.say(f"{where} has no image of {len(missing)} of {len(names)} classes: {', '.join(missing[:5])}")


def hold_out(source: ImageSource, share: float | None = None, seed: int = 0) -> Parts:
    """Images to train on, and a part to compare two networks on, which needs no label.

    Whether an image is held out is decided by its name and the seed: a run that is resumed has the same ones.

    Args:
        source: all images.
        share: of them that is held out, in [0, 1), 0 for none; default: a fifth, and at most 2,000 images.
        seed: of the choice.

    Example: ``whole, train, held_out = hold_out(open_folder("photos", layout="flat"))``
    """
    from graphkd.data.seeds import derived_seed  # with torch

    kept = int(len(source) * _SHARE) if share is None else int(len(source) * share)
    kept = min(kept, _ENOUGH) if share is None else kept
    if kept == 0:
        return Parts(source, source, None)
    drawn = [derived_seed(seed, "held out", name) for name in source.ids]
    chosen = set(heapq.nsmallest(kept, range(len(drawn)), key=drawn.__getitem__))
    train = source_subset(source, [index for index in range(len(drawn)) if index not in chosen])
    return Parts(source, train, source_subset(source, sorted(chosen)))


def open_unlabelled(data: str | Path, max_megapixels: float = MAX_MEGAPIXELS) -> ImageSource:
    """Images without labels: of a folder, of shards, one alone, those that a text file names, or ``"digits"``.

    Raises: DataError where there is no image.
    Example: ``open_unlabelled("new-photos")``
    """
    path = local_path(data)
    if path.is_dir():
        return (ShardSource if has_shards(path) else FlatFolderSource)(path, max_megapixels=max_megapixels)
    if not path.exists() and str(data) == "digits":
        return digits_source()
    if path.suffix.lower() in SUFFIXES:
        return FileSource(".", [str(path)], max_megapixels=max_megapixels)
    return open_list(path, max_megapixels=max_megapixels)


class _Relabelled(SourceSubset):
    """A source whose labels count other classes."""

    def __init__(self, source: ImageSource, label_of: dict[int, int], classes: Classes) -> None:
        super().__init__(source, range(len(source)))
        self.classes, self._label_of = classes, label_of

    def target(self, index: int) -> int | None:
        """The label among the other classes, or ``None``."""
        label = super().target(index)
        return None if label is None else self._label_of[label]


def _relabelled(source: ImageSource, classes: Classes) -> ImageSource:
    """The same images, their labels counted in these classes: by id, else by name, never by position."""
    own = Classes(source.classes or ())
    ids = own.ids or own
    present = sorted(_present(source))
    found = classes.labels([ids[label] for label in present], called=dict(zip(ids, own, strict=True)))
    label_of = {label: found[ids[label]] for label in present}
    if (own, own.ids) == (classes, classes.ids) and all(label == other for label, other in label_of.items()):
        return source
    return _Relabelled(source, label_of, classes)


def _present(source: ImageSource) -> set[int]:
    """The labels that occur."""
    targets = (source.target(index) for index in range(len(source)))
    return {label for label in targets if label is not None}
