"""Reads the numbers and names of a run from the files of its folder, as far as they exist."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graphkd.data.class_names import Classes
from graphkd.errors import CheckpointError
from graphkd.text import numbers, read_json, read_text
from graphkd.training.run_folder import read_metrics
from graphkd.training.strict_yaml import load_yaml
from graphkd.typing import Int, Tensor

_MOST = 5000  # classes that a table of confusions may have
_COUNTED = 1 << 53  # images of which all counts are exact
_LARGEST = 1 << 26  # bytes of a file: the confusions of that many classes


@dataclass(frozen=True)
class Facts:
    """A run in numbers and names.

    Args:
        run: its folder.
        options: resolved, of the command where one made the run, else of the training loop.
        environment: versions, devices, command.
        lines: of ``metrics.jsonl``.
        scores: numbers of the latest scoring.
        confusion: of that scoring.
        classes: names.
        teacher: scores of the teacher by name, each a mapping of numbers.

    Shapes: confusion (c, c).
    """

    run: Path
    options: Mapping[str, Any]
    environment: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    scores: Mapping[str, Any]
    confusion: Int[Tensor, "c c"] | None
    classes: list[str] | None
    teacher: Mapping[str, Any]

    @classmethod
    def read(cls, run: Path) -> "Facts":
        """Read a run folder, finished or not. Raises: CheckpointError for a file that is damaged."""
        options = _mapping(run / "run.yaml", lambda path: load_yaml(read_text(path))) or _mapping(run / "config.json")
        scores = _mapping(run / "scores.json")
        try:
            lines = read_metrics(run / "metrics.jsonl")
            confusion = _confusion(scores.pop("confusion"), scores.pop("classes")) if scores else None
            numbers(scores)
            classes = _class_names(_mapping(run / "student.json").get("classes"))
            teacher = _mapping(run / "results.json").get("teacher") or {}
            for each in dict(teacher).values():
                numbers(each)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CheckpointError(
                f"the run folder {run} is damaged ({error}): put a good copy back, or train again"
            ) from error
        environment = _mapping(run / "environment.json")
        return cls(run, options, environment, lines, scores, confusion, classes, teacher)

    @property
    def teacher_top1(self) -> float | None:
        """The first of the teacher's top-1s, a fraction."""
        first: Mapping[str, float] = next(iter(self.teacher.values()), {})
        return float(first["top1"]) if "top1" in first else None

    @property
    def epochs(self) -> float:
        """Epochs done at the latest reading."""
        return float(self.lines[-1]["epoch"]) if self.lines else 0.0


def per_class(confusion: Int[Tensor, "c c"], names: Sequence[str] | None) -> list[dict[str, Any]]:
    """One row a class: images, share right, the class that it is most often taken for, and how many times."""
    names = names if names and len(names) == len(confusion) else [str(number) for number in range(len(confusion))]
    rows = []
    wrong = confusion - torch.diag(confusion.diag())
    for name, counts, others in zip(names, confusion, wrong, strict=True):
        images, mistakes = int(counts.sum()), int(others.sum())
        times, taken = (int(each) for each in others.max(0))
        rows.append(
            {
                "class": name,
                "images": images,
                "right": (images - mistakes) / images if images else None,
                "taken_for": names[taken] if times else None,
                "times": times,
            }
        )
    return rows


def _json(path: Path) -> Any:
    return read_json(path, _LARGEST)


def _mapping(path: Path, read: Callable[[Path], Any] = _json) -> dict[str, Any]:
    """A file's mapping, empty where there is no file. Raises: CheckpointError."""
    if not path.is_file():
        return {}
    try:
        found = read(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({str(error).splitlines()[0]}): remove it, or put a good copy back"
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged (it holds no mapping): remove it, or put a good copy back")
    return found


def _class_names(known: Any) -> list[str] | None:
    """Readable names from the classes in ``student.json``: a mapping from id to name, or the names alone."""
    if known is None:
        return None
    names = list(known.values()) if isinstance(known, dict) else known
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("classes are no names")
    return Classes(known).distinct


def _confusion(entries: Any, classes: Any) -> Tensor:
    if type(classes) is not int or not 0 < classes <= _MOST:
        raise ValueError(f"scores.json tells of {classes} classes")
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for row, column, count in entries:
        if any(type(number) is not int or not 0 <= number < _COUNTED for number in (row, column, count)):
            raise ValueError("scores.json holds confusions that are no counts")
        counts[row, column] = count
    return counts
