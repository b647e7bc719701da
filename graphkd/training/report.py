"""The table at the end of a run, for people: as text on the terminal and as markdown in the run folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from urllib.parse import quote

from torch import nn

from graphkd.files import local_path, write_file
from graphkd.text import in_markdown, shown

_HEAD = ("network", "top-1 %", "of teacher %", "seconds", "parameters", "MiB")
_NOTE = (
    "Each figure is of the last checkpoint: choosing the best epoch on the images that a network is scored on would "
    "overstate its accuracy."
)


@dataclass(frozen=True)
class Row:
    """One network in the table.

    Args:
        name: such as ``"student, PRG (no labels)"``.
        top1: fraction in [0, 1]; one value, or one per seed, shown as mean and standard deviation.
        seconds: time to train, one value or one per seed; ``None`` where nothing was trained.
        parameters: how many it has.
        size: of its weights, MiB.
    """

    name: str
    top1: float | Sequence[float]
    seconds: float | Sequence[float] | None = None
    parameters: int | None = None
    size: float | None = None

    @classmethod
    def of(
        cls, name: str, model: nn.Module, top1: float | Sequence[float], seconds: float | Sequence[float] | None = None
    ) -> "Row":
        """A row that counts the model's parameters and measures its weights."""
        parameters = list(model.parameters())
        size = sum(p.nbytes for p in parameters) + sum(b.nbytes for b in model.buffers())
        return cls(name, top1, seconds, sum(p.numel() for p in parameters), size / 2**20)


def _spread(values: float | Sequence[float] | None, scale: float, digits: int) -> str:
    if values is None:
        return "-"
    each = [scale * v for v in values] if isinstance(values, Sequence) else [scale * values]
    text = f"{mean(each):.{digits}f}"
    return text if len(each) == 1 else f"{text} ± {stdev(each):.{digits}f}"


def _cells(row: Row, teacher: Row | None) -> tuple[str, ...]:
    ratio = "-"
    if teacher is not None:
        ratio = _spread(_mean(row.top1) / _mean(teacher.top1), 100, 1) if _mean(teacher.top1) else "-"
    count = "-" if row.parameters is None else f"{row.parameters:,}"
    size = "-" if row.size is None else f"{row.size:.1f}"
    return shown(row.name), _spread(row.top1, 100, 2), ratio, _spread(row.seconds, 1, 0), count, size


def _mean(values: float | Sequence[float]) -> float:
    return mean(values) if isinstance(values, Sequence) else values


def text_table(rows: Sequence[Row], teacher: str | None = None) -> str:
    """Aligned text.

    Args:
        rows: in the order shown.
        teacher: name of the row that the others are compared with.

    Example::

        print(text_table([Row("teacher, zero-shot", 0.98), Row("PRG", [0.96, 0.97], 60.0)], "teacher, zero-shot"))
    """
    lines = _lines(rows, teacher)
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    shown = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    rule = "-" * len(shown[0])
    return "\n".join([shown[0], rule, *shown[1:], rule])


def markdown_table(rows: Sequence[Row], teacher: str | None = None) -> str:
    """The same table in markdown."""
    lines = _lines(rows, teacher)
    marks = ("---", *["---:"] * (len(_HEAD) - 1))
    cells = [lines[0], marks, *([in_markdown(cell) for cell in line] for line in lines[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def _lines(rows: Sequence[Row], teacher: str | None) -> list[tuple[str, ...]]:
    base = next((row for row in rows if row.name == teacher), None)
    return [_HEAD, *(_cells(row, base) for row in rows)]


def write_report(
    path: Path | str,
    rows: Sequence[Row],
    teacher: str | None = None,
    title: str = "Distillation",
    notes: Sequence[str] = (),
    pictures: Mapping[str, Path | str] | None = None,
) -> str:
    """Write ``report.md`` with the table, what it means, and the pictures; returns table and notes as text.

    Args:
        path: the file.
        rows: none for notes alone.
        notes: sentences below the table.
        pictures: caption -> file, linked relative to the report.

    Example: ``print(write_report(run / "report.md", rows, "teacher, zero-shot"))``
    """
    path = local_path(path)
    table = [markdown_table(rows, teacher)] if rows else []
    parts = [f"# {in_markdown(title)}", *table, _NOTE, *map(in_markdown, notes)]
    for caption, picture in (pictures or {}).items():
        link = quote(os.fsencode(Path(os.path.relpath(picture, path.parent)).as_posix()))
        parts.append(f"![{in_markdown(caption)}]({link})\n\n{in_markdown(caption)}")
    write_file(path, "\n\n".join(parts) + "\n")
    return "\n".join([*([text_table(rows, teacher)] if rows else []), *notes, _NOTE])
