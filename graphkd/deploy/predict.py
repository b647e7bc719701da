"""Predictions of any number of images to a file: continued after a kill, whole or not there at all."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource
from graphkd.deploy.class_folders import ClassFolders, Placed
from graphkd.deploy.classifier import Classifier, Prediction, names_digest, predictions
from graphkd.deploy.journal import Journal
from graphkd.deploy.tables import FORMATS, require_distinct, table_format
from graphkd.errors import DataError, FileError
from graphkd.files import one_writer, write_file

_NAMED = 5  # unreadable images that a summary names


@dataclass
class Summary:
    """What a file of predictions holds.

    Args:
        images: how many, those that cannot be read too.
        classes: images of each likeliest class.
        confidence: mean confidence of the likeliest class, in [0, 1].
        unreadable: how many images cannot be read.
        examples: the first of them.
        placed: what became of the images in class folders, where that was asked for.
    """

    images: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    confidence: float = 0.0
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)
    placed: Placed | None = None

    def counting(self, rows: Iterable[Prediction]) -> Iterator[Prediction]:
        """The same predictions, counted."""
        for row in rows:
            self.images += 1
            if row.error is not None:
                self.unreadable += 1
                if len(self.examples) < _NAMED:
                    self.examples.append(row.name)
            else:
                self.classes[row.classes[0]] += 1
                self.confidence += (row.confidences[0] - self.confidence) / (self.images - self.unreadable)
            yield row

    def require_readable(self) -> None:
        """Raises: DataError where no image can be read."""
        if self.unreadable == self.images:
            first = self.examples[0]
            raise DataError(f"none of {self.images} images can be read, such as {first}: look at the files")


def predict(
    classifier: Classifier,
    source: ImageSource,
    out: Path,
    *,
    format: str | None = None,
    top: int = 3,
    batch_size: int = 64,
    workers: int = 0,
    on_error: Literal["skip", "stop"] = "skip",
    folders: ClassFolders | None = None,
    progress: Callable[[Any], Iterable[Any]] = iter,
) -> Summary:
    """Write what a classifier says of each image, and put the images into class folders if that is asked for.

    Memory does not grow with the images, but for their names. While it runs, ``NAME.part`` beside the file holds a line
    an image; the same call goes on there after a kill. The file itself is there whole or not at all.

    Args:
        out: the file; one of that name is replaced, but not where images are moved: it may say where others were.
        format: ``"csv"``, ``"jsonl"``, ``"parquet"`` or ``"fiftyone"``; default by the suffix of ``out``.
        top: classes of each image.
        batch_size: images per forward pass.
        workers: processes that load images.
        on_error: ``"skip"`` notes and counts an image that cannot be read; ``"stop"`` raises.
        folders: where to put the images; their source must be files below one folder.
        progress: wraps the loader of batches, such as ``tqdm``.

    Raises: DataError where no image can be read, or one under ``"stop"``, and for names that FiftyOne cannot tell
        apart; FileError for a ``NAME.part`` of other predictions, a file that a move would replace, and a full disk;
        LockedError where another process writes the same file.

    Example: ``predict(classifier, open_folder("photos"), Path("guesses.csv")).classes``
    """
    require_distinct(source.ids, table_format(out, format))
    if folders is not None:
        folders.check(classifier.classes, source)
    asked = _asked(classifier, top, getattr(source, "root", "")) | {"images": names_digest(source.ids)}
    with one_writer(out.parent, out.name):
        journal = Journal(out)
        if folders is not None and folders.move and out.exists() and not journal.complete:
            what = f"{out} is there, and may be all that tells of images that were moved before"
            raise FileError(f"{what}: choose another file to write")
        done = journal.begin(asked, batch_size)
        if not journal.complete:
            rows = predictions(
                classifier,
                source,
                top=asked["top"],
                batch_size=batch_size,
                workers=workers,
                start_batch=done,
                on_error=on_error,
                progress=progress,
            )
            journal.write(rows)
        return _finished(journal, out, format, folders)


def finish(
    classifier: Classifier,
    root: Path,
    out: Path,
    *,
    format: str | None = None,
    top: int = 3,
    folders: ClassFolders | None = None,
) -> Summary | None:
    """What :func:`predict` does after its last image, if an earlier call came so far; else ``None``.

    Images that were moved are no longer in their folder: it takes this to go on with the rest.

    Args:
        root: folder of the images; the others are as of :func:`predict`.

    Raises: FileError for a ``NAME.part`` of other predictions.
    """
    with one_writer(out.parent, out.name):
        journal = Journal(out)
        if not journal.complete:
            return None
        journal.require(_asked(classifier, top, root))
        return _finished(journal, out, format, folders)


def _asked(classifier: Classifier, top: int, root: str | Path) -> dict[str, Any]:
    """What determines predictions, but for the names of the images."""
    return {
        "model": classifier.identity,
        "classes": Classes(classifier.classes).to_json(),
        "top": min(top, len(classifier.classes)),
        "root": os.path.abspath(root),
    }


def _finished(journal: Journal, out: Path, format: str | None, folders: ClassFolders | None) -> Summary:
    classes, top = Classes(journal.asked["classes"]), journal.asked["top"]
    summary, write = Summary(), FORMATS[table_format(out, format)]

    def whole(path: Path) -> None:
        write(summary.counting(journal), path, classes.distinct, top)
        summary.require_readable()

    try:
        write_file(out, whole)
    except DataError:
        journal.remove()  # the next call looks at the images again
        raise
    if folders is not None:
        summary.placed = folders.place(journal, Path(journal.asked["root"]), classes)
    journal.remove()
    return summary
