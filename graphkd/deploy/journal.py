"""A journal of predictions: one line an image, valid after any kill, and continued where it ends."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from graphkd.deploy.classifier import Prediction
from graphkd.deploy.tables import facts
from graphkd.errors import FileError
from graphkd.files import write_file, writing
from graphkd.text import open_regular, parse_json

_LONGEST = 1 << 20  # bytes of a line
_KIND = "graphkd predictions"


class Journal:
    """Predictions in the order of their images, as JSON lines: what was asked, one line an image, and an end.

    A kill cuts at most the last line, which :meth:`begin` then removes.

    Args:
        out: the file that the predictions will become; the journal lies beside it, as ``NAME.part``.

    Attributes:
        asked: what the journal was begun with; empty where there is none.
        images: predictions that are whole.
        complete: whether it has an end.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.part")
        self.asked: dict[str, Any] = {}
        self.images, self.complete = 0, False
        if self.path.exists():
            self._look()

    def _look(self) -> None:
        """Count the whole lines. Raises: FileError for a file that is no journal."""
        with open_regular(self.path) as file:
            found = _parsed(file.readline(_LONGEST))
            if found.get("kind") != _KIND:
                raise FileError(f"{self.path} is no journal of predictions: remove it, or choose another file to write")
            self.asked = found
            for line in file:
                found = _parsed(line)
                self.complete = "images" in found
                if "name" not in found:
                    break
                self.images += 1

    def begin(self, asked: Mapping[str, Any], batch_size: int) -> int:
        """Begin, or cut an earlier journal after its last whole batch; returns how many batches are there.

        Args:
            asked: JSON-ready, what determines the predictions.

        Raises: FileError for a journal of other predictions, which names what differs.
        """
        if not self.asked:
            line = json.dumps({"kind": _KIND, **asked})
            write_file(self.path, line + "\n")
            self.asked = parse_json(line)
            return 0
        self.require(asked)
        if self.complete:
            return -(-self.images // batch_size)
        batches = self.images // batch_size
        self._cut(batches * batch_size)
        return batches

    def require(self, asked: Mapping[str, Any]) -> None:
        """Raises: FileError for a journal of other predictions, which names what differs."""
        asked = parse_json(json.dumps(asked))
        if differs := [name for name in asked if asked[name] != self.asked.get(name)]:
            what = f"{self.path} was begun with other {' and '.join(differs)}"
            raise FileError(f"{what}: remove it to begin anew, or choose another file to write")

    def _cut(self, images: int) -> None:
        with writing(self.path), self.path.open("r+b") as file:
            for _ in range(images + 1):
                file.readline()
            file.truncate(file.tell())
        self.images = images

    def write(self, predictions: Iterator[Prediction]) -> None:
        """Add predictions and an end. Raises: FileError where the disk is full; what is whole is kept."""
        how = writing(self.path, "Whole lines are kept", "run the same command again: it goes on there")
        with how, self.path.open("ab") as file:
            for each in predictions:
                _add(file, facts(each))
                self.images += 1
            _add(file, {"images": self.images})
            os.fsync(file.fileno())
        self.complete = True

    def __iter__(self) -> Iterator[Prediction]:
        with open_regular(self.path) as file:
            file.readline()
            for _ in range(self.images):
                found = parse_json(file.readline())
                classes, confidences = (tuple(found.get(name, ())) for name in ("classes", "confidences"))
                yield Prediction(found["name"], classes, confidences, found.get("error"))

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def _add(file: BinaryIO, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line).encode() + b"\n")
    file.flush()  # a full disk is met at the line that does not fit


def _parsed(line: bytes) -> dict[str, Any]:
    """A whole line; nothing for one that was cut off or damaged."""
    try:
        found = parse_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
