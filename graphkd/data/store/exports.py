"""A store as files of other programs."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphkd.data.store.format import Array
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.vectors import BLOCK, CLASSES, EMBEDDING, LOGITS, NAMES
from graphkd.errors import FileError, OptionError, StoreError
from graphkd.files import local_path, remove, temporary_name, writing
from graphkd.registry import unknown

PARQUET: Final = "vectors.parquet"
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # how Python keeps the bytes of a file name that it cannot decode


def export_store(path: str | Path, out: str | Path, form: str = "npy") -> list[Path]:
    """A store as files that other programs read, and that an import reads again, bit for bit.

    ``npy``: ``embedding.npy`` and ``names.txt``, one name a line; ``logits.npy`` where there are class scores.
    ``parquet``: ``vectors.parquet`` with the columns ``id``, ``embedding`` and ``logits``. Both: ``proxies.npy``,
    ``proxy_logits.npy`` and ``classes.txt``, as far as the store has them. float16 stays so, all else is float32.

    Args:
        path: the store.
        out: new folder, or an empty one; it is there whole, or not at all.
        form: of the files, ``"npy"`` or ``"parquet"``.

    Returns: the files.
    Raises: StoreError for a damaged store and for names that no line can hold; OptionError for several views; FileError
        where the folder is not empty or cannot be written.
    Example: ``export_store("features", "for-faiss")``
    """
    if form not in FORMS:
        raise unknown("form", form, list(FORMS))
    store, out = EmbeddingStore(path), local_path(out)
    if store.views > 1:
        raise OptionError(f"{path} holds {store.views} views of each image: give a store of one view")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FileError(f"{out} is there already: choose another folder")
    temporary = temporary_name(out)
    with writing(out, "Nothing was kept"):
        try:
            temporary.mkdir(parents=True)
            FORMS[form](store, temporary)
            for name, each in store.shared().items():
                np.save(temporary / f"{name}.npy", each.numpy())
            if store.classes is not None:
                (temporary / CLASSES).write_text("".join(f"{each}\n" for each in store.classes), encoding="utf-8")
            temporary.replace(out)
        except BaseException:
            remove(temporary)
            raise
    return sorted(out.iterdir())


def _blocks(store: EmbeddingStore) -> Iterator[dict[str, Array]]:
    """All rows, some at a time, in the number format of the files."""
    kind = _kind(store)
    for start in range(0, len(store), BLOCK):
        found = store[range(start, min(start + BLOCK, len(store)))]
        yield {part: found.tensor(part, "an export").numpy().astype(kind) for part in store.manifest.parts}


def _kind(store: EmbeddingStore) -> Any:
    return np.float16 if store.manifest.dtype == "float16" else np.float32


def _npy(store: EmbeddingStore, folder: Path) -> None:
    """Matrices written block by block, below a header that says how many rows come."""
    if broken := [name for name in store.ids if "\n" in name or "\r" in name]:
        raise StoreError(f"{len(broken)} names such as {broken[0]!r} take several lines: choose parquet")
    (folder / NAMES).write_text("".join(f"{name}\n" for name in store.ids), encoding="utf-8", errors="surrogateescape")
    names = {"embedding": EMBEDDING, "logits": LOGITS}
    with ExitStack() as held:
        files = {part: held.enter_context((folder / names[part]).open("wb")) for part in store.manifest.parts}
        for part, file in files.items():
            shape = len(store), store.manifest.columns[part].width
            header = {"descr": np.dtype(_kind(store)).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(store):
            for part, file in files.items():
                file.write(block[part].tobytes())


def _parquet(store: EmbeddingStore, folder: Path) -> None:
    """A table with a row group for each block."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    if broken := [name for name in store.ids if _NOT_UTF8.search(name)]:
        raise StoreError(f"{len(broken)} names such as {broken[0]!r} are no UTF-8: choose npy")
    array = pyarrow.FixedSizeListArray.from_arrays
    value, columns = pyarrow.from_numpy_dtype(_kind(store)), store.manifest.columns
    lists = {part: pyarrow.list_(value, columns[part].width) for part in store.manifest.parts}
    schema, ids, at = pyarrow.schema({"id": pyarrow.string(), **lists}), store.ids, 0
    with ParquetWriter(folder / PARQUET, schema) as writer:
        for block in _blocks(store):
            count = len(block["embedding"])
            parts = {part: array(rows.ravel(), type=lists[part]) for part, rows in block.items()}
            writer.write_table(pyarrow.table({"id": ids[at : at + count], **parts}, schema=schema))
            at += count


FORMS: Final[dict[str, Callable[[EmbeddingStore, Path], None]]] = {"npy": _npy, "parquet": _parquet}
