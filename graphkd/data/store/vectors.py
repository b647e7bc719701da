"""Named vectors in files of other programs: a matrix beside a list of names, clip-retrieval's folders, Parquet.

==================  ====================================================================================
matrix              ``embedding.npy`` (n, d) and ``names.txt``, one name a line; in a folder, or two files
clip-retrieval      ``img_emb/img_emb_0.npy``, ... and ``metadata/metadata_0.parquet``, ... with ``image_path``
parquet             a file, or a folder of them: a column of lists, and a column of ids
==================  ====================================================================================

A folder may hold ``logits.npy`` (beside a matrix), ``proxies.npy``, ``proxy_logits.npy`` and ``classes.txt`` too. Only
names and headers are read before the vectors are asked for, block by block.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from graphkd.data.class_names import read_rows
from graphkd.data.fingerprint import some
from graphkd.data.store.format import Array
from graphkd.errors import DataError
from graphkd.files import local_path
from graphkd.text import read_bytes, regular_size

EMBEDDING, NAMES, LOGITS, CLASSES = "embedding.npy", "names.txt", "logits.npy", "classes.txt"
SHARED = ("proxies", "proxy_logits")
BLOCK = 8192  # vectors that are read at once
_LONGEST = 1 << 32  # bytes of a list of names
_KINDS = {"float16": "float16", "float32": "float32", "float64": "float32"}  # numpy's names, a store's
_ARROW = {"halffloat": "float16", "float": "float32", "double": "float32"}  # Arrow's
_FORMS = (
    "expected embedding.npy with names.txt, clip-retrieval's img_emb/ and metadata/, or .parquet files: give such a "
    "folder, a .npy matrix or a .parquet file"
)


@dataclass(frozen=True)
class Vectors:
    """Vectors of another program, opened.

    Args:
        form: ``"matrix"``, ``"clip-retrieval"`` or ``"parquet"``.
        files: all that they are read from.
        ids: one name a vector.
        widths: of ``embedding``, and of ``logits`` where there are some.
        dtype: of the embedding, as a store calls it; float64 becomes float32.
        blocks: the rows in the order of the ids, some at a time.
        shared: ``proxies`` (c, d) and ``proxy_logits`` (c, c), as far as they are known.
        classes: class names.
    """

    form: str
    files: Sequence[Path]
    ids: Sequence[str]
    widths: Mapping[str, int]
    dtype: str
    blocks: Callable[[], Iterator[dict[str, Array]]]
    shared: Mapping[str, Array] = field(default_factory=dict)
    classes: Sequence[str] | None = None

    @property
    def num_classes(self) -> int | None:
        """Class scores of each vector: given, or those of its proxies."""
        return self.widths.get("logits") or (len(self.shared["proxies"]) if "proxies" in self.shared else None)


def open_vectors(
    path: str | Path,
    *,
    names: str | Path | None = None,
    relative_to: str | None = None,
    embedding_column: str = "embedding",
    id_column: str = "id",
    proxies: str | Path | None = None,
    classes: str | Path | None = None,
) -> Vectors:
    """Vectors of another program; their names, their widths and what is known of classes are checked.

    Args:
        path: a ``.npy`` file, a ``.parquet`` file, or a folder of one of the forms above.
        names: text file of a matrix's names, one a line; default ``names.txt`` beside it.
        relative_to: folder that all names begin with, which is taken off: what is left must be the path of an image
            below the folder of images.
        embedding_column, id_column: of Parquet.
        proxies: ``.npy`` of one vector a class, such as text embeddings.
        classes: file of class names, see :func:`graphkd.data.class_names.read_class_names`.

    Raises: DataError for missing and damaged files, another number of names than of vectors, repeated names, vectors of
        several widths, and proxies or class names that do not fit.
    Example: ``open_vectors("embeddings.npy", names="names.txt").ids``
    """
    path = local_path(path)
    if (path / "img_emb").is_dir():
        found = _clip_retrieval(path)
    elif path.suffix == ".npy" or (path / EMBEDDING).is_file():
        matrix = path / EMBEDDING if path.is_dir() else path
        found = _matrix(matrix, local_path(names) if names else matrix.with_name(NAMES))
    else:
        found = _parquet(path, embedding_column, id_column)
    shared = {name: path / f"{name}.npy" for name in SHARED if (path / f"{name}.npy").is_file()}
    if proxies is not None:
        shared = {"proxies": local_path(proxies)}
    named = local_path(classes) if classes else path / CLASSES
    found = replace(
        found,
        files=[*found.files, *shared.values()],
        ids=_checked(_below(found.ids, relative_to), path),
        shared={name: _numbers(each) for name, each in shared.items()},
        classes=[row[-1] for row in read_rows(named)] if classes or named.is_file() else None,
    )
    _check_classes(found, path)
    return found


def _matrix(path: Path, names: Path) -> Vectors:
    parts = {"embedding": [_numbers(path)]}
    files = [path, names]
    if path.name == EMBEDDING and (logits := path.with_name(LOGITS)).is_file():
        parts["logits"], files = [_numbers(logits)], [*files, logits]
    try:
        text = read_bytes(names, _LONGEST).decode("utf-8-sig", "surrogateescape")  # as Python reads names of files
    except (OSError, ValueError) as error:
        what = f"cannot read the names of {path} from {names}: {error}"
        raise DataError(f"{what}: give a text file of one name a line, in the order of the rows") from error
    ids = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    for part in parts.values():
        _require_rows(part[0], len(ids), path, names)
    return _mapped("matrix", files, ids, parts)


def _clip_retrieval(path: Path) -> Vectors:
    matrices = _in_order((path / "img_emb").glob("img_emb_*.npy"))
    if not matrices:
        raise DataError(f"{path / 'img_emb'} holds no img_emb_0.npy: {_FORMS}")
    tables = [
        path / "metadata" / each.name.replace("img_emb", "metadata").replace(".npy", ".parquet") for each in matrices
    ]
    parts, ids = {"embedding": [_numbers(each) for each in matrices]}, []
    for matrix, table, rows in zip(matrices, tables, parts["embedding"], strict=True):
        names = _names(table, "image_path")
        _require_rows(rows, len(names), matrix, table)
        ids += names
    return _mapped("clip-retrieval", [*matrices, *tables], ids, parts)


def _mapped(form: str, files: Sequence[Path], ids: Sequence[str], parts: Mapping[str, Sequence[Array]]) -> Vectors:
    """Vectors of memory-mapped matrices, one after the other."""
    widths = {name: each[0].shape[1] for name, each in parts.items()}
    for one, other in pairwise(parts["embedding"]):
        if (one.shape[1], one.dtype) != (other.shape[1], other.dtype):
            found = " and ".join(f"{each.dtype} of width {each.shape[1]}" for each in (one, other))
            raise DataError(f"the matrices of {form} hold {found}: give vectors of one network")

    def blocks() -> Iterator[dict[str, Array]]:
        for at, matrix in enumerate(parts["embedding"]):
            for start in range(0, len(matrix), BLOCK):
                yield {name: each[at][start : start + BLOCK] for name, each in parts.items()}

    return Vectors(form, files, ids, widths, _KINDS[str(parts["embedding"][0].dtype)], blocks)


def _numbers(path: Path) -> Array:
    """A matrix of floating-point numbers, memory-mapped."""
    try:
        regular_size(path)
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {path} as a matrix ({error}): give a .npy file of numpy.save") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or str(found.dtype) not in _KINDS or not found.shape[1]:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "several arrays"
        raise DataError(f"{path} holds {what}: give one vector a row, (n, d), of float16, float32 or float64")
    return found


def _in_order(paths: Iterator[Path]) -> list[Path]:
    """By the numbers in their names: ..._2 before ..._10."""
    return sorted(paths, key=lambda path: [(len(each), each) for each in re.findall(r"\d+", path.name)])


def _require_rows(matrix: Array, names: int, path: Path, where: Path) -> None:
    if len(matrix) != names:
        what = f"{path.name} holds {len(matrix)} rows and {where} {names} names"
        raise DataError(f"{what}: give one name a row, in the order of the rows")


def _opened(path: Path) -> Any:
    """A Parquet file. Raises: DataError."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        regular_size(path)
        return ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise DataError(f"cannot read {path} as Parquet ({error}): download or write it again") from error


def _column(file: Any, name: str, path: Path) -> Any:
    """The type of a column. Raises: DataError that lists the columns."""
    schema = file.schema_arrow
    if name not in schema.names:
        raise DataError(f"{path} has no column {name!r}, it has {', '.join(schema.names)}: name another column")
    return schema.field(name).type


def _names(path: Path, column: str) -> list[str]:
    """A column of texts or whole numbers, as texts."""
    import pyarrow

    file = _opened(path)
    kind = _column(file, column, path)
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_integer(kind)):
        raise DataError(f"{path}: the column {column!r} holds {kind}, expected texts or whole numbers: name another")
    with _reading(path):
        found = file.read(columns=[column]).column(0)
    if found.null_count:
        raise DataError(f"{path}: {found.null_count} rows of the column {column!r} are empty: give each vector a name")
    return [str(each) for each in found.to_pylist()]


def _parquet(path: Path, embedding: str, ids: str) -> Vectors:
    paths = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not paths or (path.is_file() and path.suffix != ".parquet"):
        raise DataError(f"{path} holds no vectors: {_FORMS}")
    files = [_opened(each) for each in paths]
    columns = {"embedding": embedding}
    if all("logits" in file.schema_arrow.names for file in files) and embedding != "logits":
        columns["logits"] = "logits"
    dtypes = {
        _list_kind(_column(file, embedding, each), embedding, each) for file, each in zip(files, paths, strict=True)
    }
    if len(dtypes) > 1:
        raise DataError(f"the files of {path} hold {' and '.join(sorted(dtypes))}: give vectors of one network")
    names = [name for each in paths for name in _names(each, ids)]

    def blocks() -> Iterator[dict[str, Array]]:
        for file, each in zip(files, paths, strict=True):
            with _reading(each):
                for batch in file.iter_batches(batch_size=BLOCK, columns=list(columns.values())):
                    yield {part: _rows(batch.column(name), name, each) for part, name in columns.items()}

    first = next((block for block in blocks() if len(block["embedding"])), {})
    if not first:
        raise DataError(f"{path} holds no vectors: give files with at least one row")
    widths = {part: each.shape[1] for part, each in first.items()}
    return Vectors("parquet", paths, names, widths, dtypes.pop(), blocks)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Inside, a damaged file of Parquet becomes an error that names it."""
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, ArrowException) as error:
        raise DataError(f"{path} is damaged ({error}): download or write it again") from error


def _list_kind(kind: Any, column: str, path: Path) -> str:
    """The number format of a column of lists."""
    import pyarrow

    lists = (pyarrow.types.is_fixed_size_list, pyarrow.types.is_list, pyarrow.types.is_large_list)
    if not any(is_list(kind) for is_list in lists) or str(kind.value_type) not in _ARROW:
        what = f"{path}: the column {column!r} holds {kind}, expected lists of floating-point numbers"
        raise DataError(f"{what}: name another column")
    return _ARROW[str(kind.value_type)]


def _rows(column: Any, name: str, path: Path) -> Array:
    """A column of lists as a matrix."""
    flat = column.flatten()
    if column.null_count or flat.null_count or len(flat) % max(1, len(column)):
        raise DataError(f"{path}: some rows of the column {name!r} are empty or of another length: give whole vectors")
    width = len(flat) // max(1, len(column))
    if len(column) and set(column.value_lengths().unique().to_pylist()) != {width}:
        raise DataError(f"{path}: the column {name!r} holds vectors of several lengths: give those of one network")
    rows: Array = flat.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return rows


def _below(ids: Sequence[str], folder: str | None) -> Sequence[str]:
    """Names without the folder that all begin with."""
    if folder is None:
        return ids
    prefix = folder.rstrip("/") + "/"
    if others := [name for name in ids if not name.startswith(prefix)]:
        what = f"{some(others)} of {len(ids)} names do not begin with {prefix}"
        raise DataError(f"{what}: give the folder that all begin with")
    return [name.removeprefix(prefix) for name in ids]


def _checked(ids: Sequence[str], path: Path) -> Sequence[str]:
    """Names that tell vectors apart."""
    if not ids:
        raise DataError(f"{path} holds no vectors: {_FORMS}")
    name, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path} names {name!r} {count} times: give each vector a name of its own")
    return ids


def _check_classes(found: Vectors, path: Path) -> None:
    """Raises: DataError for proxies of another width, and class names or scores of another number."""
    width, shared = found.widths["embedding"], found.shared
    if "proxies" in shared and shared["proxies"].shape[1] != width:
        what = f"the proxies have width {shared['proxies'].shape[1]} and the vectors of {path} {width}"
        raise DataError(f"{what}: give those of the same network")
    counts = {
        "rows of proxies": len(shared["proxies"]) if "proxies" in shared else None,
        "class scores": found.widths.get("logits"),
        "rows of proxy logits": len(shared["proxy_logits"]) if "proxy_logits" in shared else None,
        "class names": None if found.classes is None else len(found.classes),
    }
    known = {name: count for name, count in counts.items() if count is not None}
    if len({*known.values()}) > 1:
        what = " and ".join(f"{count} {name}" for name, count in known.items())
        raise DataError(f"{path} comes with {what}: give as many of each")
    if found.classes is not None and found.num_classes is None:
        raise DataError(f"{path} has class names and nothing that scores them: give proxies, such as text embeddings")
