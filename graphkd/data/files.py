"""Files that are whole or absent: written at once, and read only if they fit their digest."""

import json
import os
import secrets
import stat
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.fingerprint import digest
from graphkd.errors import StoreError
from graphkd.text import read_bytes

JSON_LIMIT = 1 << 26  # bytes; Python's objects of a hostile one take about twenty times as much
_OWN = "digest_of_this"
_LAST = len(f',\n "{_OWN}": "{"0" * 64}"\n}}')


def write_file(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to the disk, rename: a reader sees the old file or the whole new one.

    The temporary name is drawn at random and must be new, so that writers of the same file do not meet, and a link that
    waits there is not followed.

    Raises: StoreError where the disk is full or the folder cannot be written; the old file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name itself must survive a power cut
        finally:
            os.close(folder)
    except OSError as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path} ({len(data)} bytes): {error.strerror}; what was finished is kept: free some space "
            "or give a folder that can be written, and run again"
        ) from error


def write_json(path: Path, body: Mapping[str, Any]) -> str:
    """Write a JSON object whose last entry is the SHA-256 of the text before it; returns that digest.

    Raises: StoreError for a text larger than what :func:`read_json` reads.
    """
    text = json.dumps(body, indent=1, allow_nan=False).removesuffix("\n}")
    own = digest(text)
    data = f'{text},\n "{_OWN}": "{own}"\n}}'.encode()
    if len(data) > JSON_LIMIT:
        raise StoreError(f"{path} would take {len(data)} bytes, at most {JSON_LIMIT} are read: use smaller shards")
    write_file(path, data)
    return own


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON object and its digest, which is compared before the text is parsed.

    Raises: StoreError unless it is there and fits its own digest.
    """
    try:
        data = read_bytes(path, JSON_LIMIT)
        text, last = data[:-_LAST], data[-_LAST:]
        own = digest(text)
        if last != f',\n "{_OWN}": "{own}"\n}}'.encode():
            raise ValueError("it does not fit its own digest")
        body = json.loads(data)
        del body[_OWN]
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: expected a store that embed(...) wrote; run the embedding") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged ({error}): delete it and embed again into this folder; shards that fit are kept"
        ) from error
    return body, own


def load_file(path: Path, size: int, expected: str) -> np.ndarray[Any, Any]:
    """A file as memory-mapped bytes, once they fit their digest. Raises: StoreError that names the file."""
    try:
        if _size(path) == size:  # before mapping: reading past a file's end kills the process
            # torch's mapping keeps no file open, numpy's keeps one per shard
            raw: np.ndarray[Any, Any] = torch.from_file(str(path), size=size, dtype=torch.uint8).numpy()
            if digest(raw) == expected:
                raw.flags.writeable = False
                return raw
        problem = "does not fit its digest"
    except (OSError, RuntimeError, TypeError) as error:
        problem = f"cannot be read ({error})"
    raise StoreError(f"{path} {problem}: repair the store, or delete this file and embed again")


def open_regular(path: Path) -> BufferedReader:
    """A regular file, open to read.

    Raises: OSError for anything else: opening a pipe would wait for its writer, reading a device may never end.
    """
    _size(path)  # before it is opened: opening alone can set a device going
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _size(path: Path) -> int:
    """Bytes of a regular file. Raises: OSError for anything else: a pipe, say, would block its reader."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    return found.st_size
