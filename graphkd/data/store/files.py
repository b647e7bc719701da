"""Files of a store: JSON that ends in its own digest, and files that are read only if they fit theirs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.fingerprint import digest
from graphkd.errors import StoreError
from graphkd.files import write_file
from graphkd.text import read_bytes, regular_size

JSON_LIMIT = 1 << 26  # bytes; Python's objects of a hostile one take about twenty times as much
_OWN = "digest_of_this"
_LAST = len(f',\n "{_OWN}": "{"0" * 64}"\n}}')


def write_json(path: Path, body: Mapping[str, Any]) -> str:
    """Write a JSON object whose last entry is the SHA-256 of the text before it; returns that digest.

    Raises: StoreError for a text larger than what :func:`read_json` reads; FileError where it cannot be written.
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
        if regular_size(path) == size:  # before mapping: reading past a file's end kills the process
            # torch's mapping keeps no file open, numpy's keeps one per shard
            raw: np.ndarray[Any, Any] = torch.from_file(str(path), size=size, dtype=torch.uint8).numpy()
            if digest(raw) == expected:
                raw.flags.writeable = False
                return raw
        problem = "does not fit its digest"
    except (OSError, RuntimeError, TypeError) as error:
        problem = f"cannot be read ({error})"
    raise StoreError(f"{path} {problem}: repair the store, or delete this file and embed again")
