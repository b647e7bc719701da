"""Predictions as files of other programs: CSV, JSON lines, Parquet, and the labels of a FiftyOne data set."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeAlias, TypeVar

from graphkd.errors import DataError, OptionError
from graphkd.registry import unknown

if TYPE_CHECKING:  # it loads torch, and a command asks for the formats without
    from graphkd.deploy.classifier import Prediction

T = TypeVar("T")
Rows: TypeAlias = "Iterable[Prediction]"
_GROUP = 8192  # rows that Parquet keeps together


def table_format(out: Path, asked: str | None = None) -> str:
    """The format of a file of predictions: what was asked for, or what its suffix says.

    Raises: UnknownNameError, OptionError where neither says it; ModuleNotFoundError for Parquet without pyarrow.
    """
    found = asked or SUFFIXES.get(out.suffix.lower())
    if found is None:
        endings = ", ".join(SUFFIXES)
        raise OptionError(f"{out} does not say what format it has: give a name that ends in {endings}")
    if found not in FORMATS:
        raise unknown("format", found, list(FORMATS))
    if found == "parquet":
        import pyarrow.parquet  # noqa: F401  # a missing package is named before hours of work
    return found


def require_distinct(names: Iterable[str], format: str) -> None:
    """Raises: DataError for two images that are one to FiftyOne, which finds them by their names without suffix."""
    first: dict[str, str] = {}
    for name in names if format == "fiftyone" else ():
        other = first.setdefault(_stem(name), name)
        if other != name:
            what = f"{other} and {name} are one image to FiftyOne, which leaves suffixes out"
            raise DataError(f"{what}: name one of them otherwise, or write .csv, .jsonl or .parquet")


def write_csv(rows: Rows, file: TextIO, top: int) -> None:
    """A line a prediction, below a line of column names, to an open file."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns(top))
    writer.writerows(_cells(row, top) for row in rows)


def columns(top: int) -> list[str]:
    """``name, class, confidence, class_2, confidence_2, ..., error``."""
    pairs = [
        f"{name}{place}" for place in ["", *(f"_{n}" for n in range(2, top + 1))] for name in ("class", "confidence")
    ]
    return ["name", *pairs, "error"]


def _cells(row: "Prediction", top: int) -> list[Any]:
    pairs = [each for pair in zip(row.classes, row.confidences, strict=True) for each in pair]
    return [row.name, *pairs, *[None] * (2 * top - len(pairs)), row.error]


def facts(row: "Prediction") -> dict[str, Any]:
    """A prediction as JSON-ready data; of an image that cannot be read, its name and the error."""
    if row.error is not None:
        return {"name": row.name, "error": row.error}
    return {"name": row.name, "classes": list(row.classes), "confidences": list(row.confidences)}


def _csv(rows: Rows, path: Path, classes: Sequence[str], top: int) -> None:
    # surrogateescape: a name that is no UTF-8 is written in its own bytes
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        write_csv(rows, file, top)


def _jsonl(rows: Rows, path: Path, classes: Sequence[str], top: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(facts(row)) + "\n" for row in rows)


def _parquet(rows: Rows, path: Path, classes: Sequence[str], top: int) -> None:
    import pyarrow
    import pyarrow.parquet

    kinds = {"name": pyarrow.string(), "class": pyarrow.string(), "confidence": pyarrow.float32()}
    names = columns(top)
    schema = pyarrow.schema([(name, kinds.get(name.partition("_")[0], pyarrow.string())) for name in names])
    with pyarrow.parquet.ParquetWriter(str(path), schema) as writer:
        for group in groups(rows):
            cells = zip(*(map(utf8, _cells(row, top)) for row in group), strict=True)
            writer.write_table(pyarrow.table(dict(zip(names, map(list, cells), strict=True)), schema=schema))


def groups(rows: Iterable[T]) -> Iterator[list[T]]:
    """Rows, as many at a time as Parquet keeps together."""
    rows = iter(rows)
    while group := list(islice(rows, _GROUP)):
        yield group


def utf8(cell: Any) -> Any:
    """A cell that Parquet takes: what is no UTF-8 is written by its escapes."""
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell


def _fiftyone(rows: Rows, path: Path, classes: Sequence[str], top: int) -> None:
    """FiftyOne's ``FiftyOneImageClassificationDataset``: the name without its suffix -> class number and confidence."""
    number = {name: at for at, name in enumerate(classes)}
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"classes": {json.dumps(list(classes))}, "labels": {{')
        comma = ""
        for row in rows:
            if row.error is None:
                label = {"label": number[row.classes[0]], "confidence": row.confidences[0]}
                file.write(f"{comma}\n{json.dumps(_stem(row.name))}: {json.dumps(label)}")
                comma = ","
        file.write("\n}}\n")


def _stem(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + (base.rpartition(".")[0] or base)


FORMATS: Final[dict[str, Callable[[Rows, Path, Sequence[str], int], None]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "fiftyone": _fiftyone,
}
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".json": "fiftyone"}
