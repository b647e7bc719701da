"""Images put into one folder a class, by what a classifier says of them; no file is ever overwritten."""

import filecmp
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from graphkd.data.class_names import Classes
from graphkd.data.sources import FileSource, ImageSource
from graphkd.deploy.classifier import Prediction
from graphkd.errors import OptionError
from graphkd.files import copy_file, link_file, writing

_UNSAFE = re.compile(r"[/\\\0]|^\.+|^$")


@dataclass
class Placed:
    """What became of the images.

    Args:
        placed: images in each class folder.
        uncertain: images left where they are: their confidence was too low.
        in_the_way: another file had the name already; the image stays where it is.
        missing: images that are gone.
    """

    placed: Counter[str] = field(default_factory=Counter)
    uncertain: int = 0
    in_the_way: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ClassFolders:
    """Folders named like the classes: by the folder that a class was trained from, else by its name.

    An image keeps its path below its class folder: ``a/1.jpg`` and ``b/1.jpg`` of cats become ``cat/a/1.jpg`` and
    ``cat/b/1.jpg``.

    Args:
        root: folder of the class folders.
        move: move the images; else copy them.
        above: least confidence of an image that is placed, in [0, 1]; the others stay where they are.
    """

    root: Path
    move: bool = False
    above: float = 0.0

    def names(self, classes: Sequence[str]) -> dict[str, str]:
        """The folder of each class, by its distinct name. Raises: OptionError for classes that would share one."""
        known = Classes(classes)
        folders = [_UNSAFE.sub("_", name) for name in known.ids or known.distinct]
        shared = [name for name, count in Counter(folders).items() if count > 1]
        if shared:
            raise OptionError(f"several classes would share the folder {shared[0]!r}: give the classes other names")
        return dict(zip(known.distinct, folders, strict=True))

    def check(self, classes: Sequence[str], source: ImageSource) -> None:
        """Raises: OptionError for classes that would share a folder, and for images that are no files of their own."""
        self.names(classes)
        if not isinstance(source, FileSource):
            raise OptionError("only images that are files can be put into folders: unpack shards and data sets first")

    def place(self, predictions: Iterable[Prediction], source: Path, classes: Sequence[str]) -> Placed:
        """Put images into class folders; what an earlier call has put there counts, and is not done again.

        Args:
            predictions: whose names are paths relative to ``source``.
            source: folder of the images.
            classes: of the predictions.

        Raises: FileError where a folder cannot be written; what was placed stays.
        """
        names, found = self.names(classes), Placed()
        for each in predictions:
            if each.error is not None:
                continue
            if each.confidences[0] < self.above:
                found.uncertain += 1
                continue
            folder = names[each.classes[0]]
            done = self._put(source / each.name, self.root / folder / inside(each.name))
            if done is None:
                found.placed[folder] += 1
            else:
                getattr(found, done).append(each.name)
        return found

    def _put(self, image: Path, target: Path) -> str | None:
        """One image to its place; what is in the way of it, else nothing."""
        if not image.exists():
            return None if self.move and target.exists() else "missing"
        if target.exists() and _is_one(image, target):
            return None
        if target.exists() and not filecmp.cmp(image, target, shallow=False):
            return "in_the_way"
        with writing(target, "What was placed stays", "run the same command again: it goes on there"):
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                link_file(image, target) if self.move and not image.is_symlink() else copy_file(image, target)
            if self.move and target.stat().st_size == image.stat().st_size:
                image.unlink()
        return None


def _is_one(image: Path, target: Path) -> bool:
    """Whether an image lies where it is to be put; a second name of it, which a killed move leaves, is another file."""
    same = os.path.realpath(image) == os.path.realpath(target)
    return same or (os.path.samefile(image, target) and image.lstat().st_nlink < 2)


def inside(name: str) -> Path:
    """A name as a path that does not lead out of a folder."""
    return Path(*(part for part in PurePosixPath(name).parts if part not in ("/", "..")))
