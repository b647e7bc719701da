"""Reads the numbers and names of a run from the files of its folder, as far as they exist."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graphkd.data.class_names import Classes
from graphkd.errors import CheckpointError
from graphkd.text import numbers, read_json, read_text
from graphkd.training.run_folder import read_metrics
from graphkd.training.strict_yaml import load_yaml
from graphkd.typing import Float, Int, Tensor

_MOST = 5000  # classes that a table of confusions may have
_NAMED = 1 << 20  # classes that a list of them may have
_COMPARED = (
    "agreement",
    "calibration_to_teacher",
    "student_confidence",
    "teacher_confidence",
    "student_entropy",
    "teacher_entropy",
    "student_classes",
    "teacher_classes",
    "images",
)
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
        quality: numbers of the latest comparison with the teacher.
        pairs: of that comparison: teacher's guess, student's guess, images.
        reliability: by bin of confidence: images, sum of confidences, images that both guess the same.
        collapsed: whether the student uses less than half of its teacher's classes in effect.

    Shapes: confusion (c, c), reliability (3, m).
    """

    run: Path
    options: Mapping[str, Any]
    environment: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    scores: Mapping[str, Any]
    confusion: Int[Tensor, "c c"] | None
    classes: list[str] | None
    teacher: Mapping[str, Any]
    quality: Mapping[str, float]
    pairs: Sequence[tuple[int, int, int]]
    reliability: Float[Tensor, "3 m"] | None
    collapsed: bool

    @classmethod
    def read(cls, run: Path) -> "Facts":
        """Read a run folder, finished or not. Raises: CheckpointError for a file that is damaged."""
        options = _mapping(run / "run.yaml", lambda path: load_yaml(read_text(path))) or _mapping(run / "config.json")
        scores, quality = _mapping(run / "scores.json"), _mapping(run / "quality.json")
        try:
            lines = read_metrics(run / "metrics.jsonl")
            confusion = _confusion(scores.pop("confusion"), scores.pop("classes")) if scores else None
            numbers(scores)
            classes = _class_names(_mapping(run / "student.json").get("classes"))
            teacher = _mapping(run / "results.json").get("teacher") or {}
            for each in dict(teacher).values():
                numbers(each)
            compared = _compared(quality) if quality else ([], None, False)
            numbers(quality, _COMPARED if quality else ())
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CheckpointError(
                f"the run folder {run} is damaged ({error}): put a good copy back, or train again"
            ) from error
        environment = _mapping(run / "environment.json")
        return cls(run, options, environment, lines, scores, confusion, classes, teacher, quality, *compared)

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


def class_agreement(
    pairs: Iterable[tuple[int, int, int]], classes: int, names: Sequence[str] | None
) -> list[dict[str, Any]]:
    """One row a class: how often teacher and student guess it, and the share of the teacher's on which both agree.

    Args:
        pairs: teacher's guess, student's guess, images; see :class:`graphkd.training.quality.Quality`.
        classes: how many there are.
        names: of them.

    Returns: by class ``teacher`` and ``student`` (images), ``agreement``, and what it is most often ``taken_for``.
    """
    names = names if names and len(names) == classes else [str(number) for number in range(classes)]
    sides, both = ([0] * classes, [0] * classes), [0] * classes
    taken: list[tuple[int, int]] = [(0, 0)] * classes  # times, by which other class
    for teacher, student, count in pairs:
        sides[0][teacher] += count
        sides[1][student] += count
        if teacher == student:
            both[teacher] = count
        elif count > taken[teacher][0]:
            taken[teacher] = count, student
    return [
        {
            "class": name,
            "teacher": by_teacher,
            "student": by_student,
            "agreement": same / by_teacher if by_teacher else None,
            "taken_for": names[other] if times else None,
        }
        for name, by_teacher, by_student, same, (times, other) in zip(names, *sides, both, taken, strict=True)
    ]


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


def _compared(found: dict[str, Any]) -> tuple[list[tuple[int, int, int]], Tensor, bool]:
    """What a ``quality.json`` holds beside numbers, taken out of it."""
    classes, pairs, collapsed = found["classes"], found.pop("confusion"), found.pop("collapsed")
    _check_counts("quality.json", pairs, classes, _NAMED)
    bins = torch.tensor(found.pop("reliability"), dtype=torch.float64).T
    if bins.ndim != 2 or len(bins) != 3 or not bins.isfinite().all() or type(collapsed) is not bool:
        raise ValueError("quality.json holds no reliability by bins of confidence")
    return pairs, bins, collapsed


def _check_counts(file: str, entries: Any, classes: Any, most: int) -> None:
    """Raises: ValueError unless these are counts of pairs of so many classes."""
    if type(classes) is not int or not 0 < classes <= most:
        raise ValueError(f"{file} tells of {classes} classes")
    for row, column, count in entries:
        if any(type(number) is not int or not 0 <= number < _COUNTED for number in (row, column, count)):
            raise ValueError(f"{file} holds confusions that are no counts")
        if max(row, column) >= classes:
            raise ValueError(f"{file} holds confusions of a class that there is not")


def _confusion(entries: Any, classes: Any) -> Tensor:
    _check_counts("scores.json", entries, classes, _MOST)
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for row, column, count in entries:
        counts[row, column] = count
    return counts
