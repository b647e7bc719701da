"""Files that are whole or absent: written at once, and read only if they fit their digest."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.fingerprint import canonical, digest
from graphkd.errors import StoreError

_JSON_LIMIT = 1 << 28  # bytes of a JSON file that are read at all
_OWN = "digest_of_this"


def write_file(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to the disk, rename: a reader sees the old file or the whole new one.

    Raises: StoreError where the disk is full or the folder cannot be written; the old file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
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
    """Write a JSON file that carries its own digest; returns the digest."""
    own = digest(canonical(body))
    write_file(path, json.dumps({**body, _OWN: own}, indent=1).encode())
    return own


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON file and its digest. Raises: StoreError unless it is there and fits its own digest."""
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise ValueError(f"larger than {_JSON_LIMIT} bytes")
        body = json.loads(path.read_bytes())
        own = body.pop(_OWN)
        if digest(canonical(body)) != own:
            raise ValueError("it does not fit its own digest")
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: expected a store that embed(...) wrote; run the embedding") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged ({error}): delete it and embed again into this folder; shards that fit are kept"
        ) from error
    return body, own


def load_file(path: Path, size: int, expected: str) -> np.ndarray[Any, Any]:
    """A file as memory-mapped bytes, once they fit their digest. Raises: StoreError that names the file."""
    try:
        if path.stat().st_size == size:  # before mapping: reading past a file's end kills the process
            # torch's mapping keeps no file open, numpy's keeps one per shard
            raw: np.ndarray[Any, Any] = torch.from_file(str(path), size=size, dtype=torch.uint8).numpy()
            if digest(raw) == expected:
                raw.flags.writeable = False
                return raw
        problem = "does not fit its digest"
    except (OSError, RuntimeError) as error:
        problem = f"cannot be read ({error})"
    raise StoreError(f"{path} {problem}: delete this file and embed again; only what is missing is computed")
