"""Files that are there whole or not at all, and what is said where the disk is full."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphkd.errors import CheckpointError


@contextmanager
def written(path: Path, kept: str) -> Iterator[None]:
    """Inside, a file that cannot be written becomes an error that says what is left.

    Args:
        path: what is being written.
        kept: what holds all the same.

    Raises: CheckpointError.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"cannot write {path}: {reason}. {kept}: free some space, and go on with fit(resume=True)"
        ) from error


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write to a temporary name, flush to the disk, rename: the file is there whole or not at all.

    Raises: CheckpointError where the disk is full; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with written(path, "The file is as it was"):
        write(temporary)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)


def write_json(path: Path, data: Any) -> None:
    """JSON to a file, whole or not at all; of a name that is no UTF-8, the bytes are escaped as JSON does it."""
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
