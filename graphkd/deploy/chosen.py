"""What was chosen from a pool as files: a list of paths, a table of every image's score, or a folder of the images."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphkd.errors import DataError, FileError, OptionError
from graphkd.files import copy_file, link_file, remove, remove_leftovers, temporary_name, write_file, writing

if TYPE_CHECKING:  # they load torch, and a command asks for the formats without
    from graphkd.data.pool import PoolScores
    from graphkd.data.selection import Selection
    from graphkd.data.sources import FileSource, ImageSource

_COLUMNS = ("name", "class", "score", "kept")


def write_chosen(out: Path, scores: "PoolScores", chosen: "Selection", source: "ImageSource | None" = None) -> None:
    """Write a list of the chosen images (``.txt``), or a table of all (``.csv``, ``.jsonl``, ``.parquet``).

    A list has a path a line, as ``--data`` reads it; of images that are no files, their names. A table has a row an
    image: name, class, score (the confidence, margin or entropy by which it was ranked) and whether it was kept.

    Args:
        out: the file; one of that name is replaced, whole or not at all.
        scores: of the pool.
        chosen: from it.
        source: the pool; ``None`` of a store alone.

    Raises: OptionError for another suffix; DataError for a name that does not fit on a line; FileError where the disk
        is full; ModuleNotFoundError for Parquet without pyarrow.
    Example: ``write_chosen(Path("list.txt"), scores, chosen, source)``
    """
    require_format(out)
    if out.suffix == ".txt":
        paths = _paths(chosen, source)
        write_file(out, lambda path: path.write_text("".join(paths), encoding="utf-8", errors="surrogateescape"))
    else:
        write_file(out, lambda path: TABLES[out.suffix](_rows(scores, chosen), path))


def require_format(out: Path) -> None:
    """Raises: OptionError for a name that does not say its format; ModuleNotFoundError for Parquet without pyarrow."""
    if out.suffix not in FORMATS:
        raise OptionError(f"{out} does not say what format it has: give a name that ends in {', '.join(FORMATS)}")
    if out.suffix == ".parquet":
        import pyarrow.parquet  # noqa: F401  # a missing package is named before hours of work


def require_files(source: "ImageSource") -> "FileSource":
    """Raises: OptionError for images that are no files of their own."""
    from graphkd.data.sources import FileSource

    if not isinstance(source, FileSource):
        raise OptionError("only images that are files can be put into a folder: unpack shards and data sets first")
    return source


def write_folder(out: Path, chosen: "Selection", source: "ImageSource", *, copy: bool = False) -> None:
    """Put the chosen images into a new folder, each under its name in the pool; it is there whole or not at all.

    Args:
        out: the folder; it must not be there, or be empty.
        chosen: from the pool.
        source: the pool, of files.
        copy: copy them; else they get a second name (a hard link), which takes no space, or a copy where the disk of
            ``out`` is another one.

    Raises: OptionError for images that are no files of their own; FileError for a folder that holds something, an image
        that is gone, and where the disk is full.
    Example: ``write_folder(Path("chosen"), chosen, open_folder("pool"))``
    """
    from graphkd.deploy.class_folders import inside

    files = require_files(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileError(f"{out} holds something already: remove it, or choose another folder")
    remove_leftovers(out.parent, out.name)
    folder = temporary_name(out)
    try:
        with writing(out, "Nothing was placed"):
            for name in chosen.ids:
                target = folder / inside(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                (copy_file if copy else link_file)((files.root / name).resolve(), target)
            os.replace(folder, out)
    finally:
        remove(folder)


def _paths(chosen: "Selection", source: "ImageSource | None") -> Iterator[str]:
    from graphkd.data.sources import FileSource

    for name in chosen.ids:
        path = os.path.normpath(source.root / name) if isinstance(source, FileSource) else name
        if path.strip() != path or len(path.splitlines()) != 1:
            raise DataError(f"the name {path!r} does not fit on a line: rename the image, or write a table (.csv)")
        yield f"{path}\n"


def _rows(scores: "PoolScores", chosen: "Selection") -> Iterator[tuple[str, str | None, float | None, bool]]:
    kept, values = set(chosen.indices.tolist()), scores.values(chosen.options["score"])
    names = chosen.class_names
    for at, (name, label) in enumerate(zip(scores.ids, scores.label.tolist(), strict=True)):
        yield (name, None, None, False) if label < 0 else (name, names[label], float(values[at]), at in kept)


def _csv(rows: Iterable[tuple[Any, ...]], path: Path) -> None:
    # surrogateescape: a name that is no UTF-8 is written in its own bytes
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(rows)


def _jsonl(rows: Iterable[tuple[Any, ...]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(zip(_COLUMNS, row, strict=True))) + "\n" for row in rows)


def _parquet(rows: Iterable[tuple[Any, ...]], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    from graphkd.deploy.tables import groups, utf8

    kinds = (pyarrow.string(), pyarrow.string(), pyarrow.float64(), pyarrow.bool_())
    schema = pyarrow.schema(list(zip(_COLUMNS, kinds, strict=True)))
    with pyarrow.parquet.ParquetWriter(str(path), schema) as writer:
        for group in groups(rows):
            cells = zip(*(map(utf8, row) for row in group), strict=True)
            writer.write_table(pyarrow.table(dict(zip(_COLUMNS, map(list, cells), strict=True)), schema=schema))


TABLES: Final[dict[str, Callable[[Iterable[tuple[Any, ...]], Path], None]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
FORMATS: Final = (".txt", *TABLES)
