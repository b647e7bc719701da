"""The files of an embedding store: a manifest, and shards that each come with a JSON sidecar.

::

    manifest.json          what the store was made of; lists every file's digest once the store is complete
    shared.safetensors     proxies and proxy_logits, float32 (as far as the teacher has them)
    shard-00000.safetensors, ...   embedding and logits of samples [k * shard_size, (k + 1) * shard_size)
    shared.json, shard-00000.json, ...   bytes and digest of that file, and of a shard its ids, sizes, content hashes

A sidecar names the store it belongs to, so shards can be written one by one, in any order and by anyone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.data.files import read_json, write_json
from graphkd.data.fingerprint import canonical, differences, digest, some
from graphkd.errors import StoreError
from graphkd.registry import unknown

VERSION = 1
MANIFEST = "manifest.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
RAW = {"float32": np.uint32, "float16": np.uint16, "bfloat16": np.uint16}  # numpy has no bfloat16: rows move as bits


@dataclass(frozen=True)
class Entry:
    """One finished file: its size in bytes, its digest, and the digest of its sidecar."""

    bytes: int
    digest: str
    sidecar: str


@dataclass(frozen=True)
class Manifest:
    """What a store was made of.

    Args:
        dtype: of embedding and logits on disk; read back as float32.
        samples: number of samples.
        shard_size: samples per shard; the last shard may hold fewer.
        embedding_dim, num_classes, classes: as of the teacher.
        data, order: fingerprints of the samples and of their order.
        teacher: the teacher's fingerprint.
        transform: canonical JSON of the transform.
        shared, shards: the finished files; ``None`` while the store is incomplete.
    """

    dtype: str
    samples: int
    shard_size: int
    embedding_dim: int
    num_classes: int | None
    classes: list[str] | None
    data: str
    order: str
    teacher: dict[str, str]
    transform: str
    shared: Entry | None = None
    shards: list[Entry] | None = None
    version: int = VERSION

    @property
    def identity(self) -> str:
        """Digest of everything but the list of files."""
        return digest(canonical(asdict(replace(self, shared=None, shards=None))))

    @property
    def widths(self) -> dict[str, int]:
        """Columns of each per-sample tensor."""
        return {"embedding": self.embedding_dim} | ({"logits": self.num_classes} if self.num_classes else {})

    @property
    def count(self) -> int:
        """Number of shards."""
        return -(-self.samples // self.shard_size)

    @property
    def names(self) -> list[str]:
        """Every shard's file name without its ending."""
        return [shard_name(number) for number in range(self.count)]

    def span(self, number: int) -> range:
        """Positions of a shard's samples."""
        return range(number * self.shard_size, min(self.samples, (number + 1) * self.shard_size))

    def differences(self, asked: "Manifest") -> list[str]:
        """One sentence for each thing in which another run's plan differs, the order of samples left aside."""
        return [
            *differences(self.teacher, asked.teacher),
            *differences(class_terms(self.classes), class_terms(asked.classes)),
            *differences(self._terms(), asked._terms()),
        ]

    def _terms(self) -> dict[str, str]:
        data = f"{self.samples} samples, fingerprint {self.data}"
        return {"transform": self.transform, "data": data, "dtype": self.dtype}

    def write(self, folder: Path) -> None:
        """Put it into its folder, at once or not at all."""
        write_json(folder / MANIFEST, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a folder. Raises: StoreError for a missing, damaged or foreign one."""
        path = folder / MANIFEST
        body, _ = read_json(path)
        if body.get("version") != VERSION:
            raise StoreError(f"{path}: expected version {VERSION}, found {body.get('version')!r}: embed again")
        try:
            if set(body) != {field.name for field in fields(cls)}:
                raise StoreError(f"has the keys {sorted(body)}")
            shared, shards = body.pop("shared"), body.pop("shards")
            manifest = cls(
                **body,
                shared=None if shared is None else Entry(**shared),
                shards=None if shards is None else [Entry(**each) for each in shards],
            )
            counts = (manifest.samples, manifest.shard_size, manifest.embedding_dim)
            if manifest.dtype not in DTYPES or any(type(count) is not int or count < 1 for count in counts):
                raise StoreError(f"has dtype {manifest.dtype!r} and counts {counts}")
            if manifest.shards is not None and (shared is None or len(manifest.shards) != manifest.count):
                raise StoreError(f"lists {len(manifest.shards)} of {manifest.count} shards")
        except (TypeError, StoreError) as error:
            raise StoreError(f"{path} is no manifest of a store: it {error}; delete it and embed again") from error
        return manifest


def shard_name(number: int) -> str:
    """A shard's file name without its ending."""
    return f"shard-{number:05d}"


def class_terms(classes: Sequence[str] | None) -> dict[str, str]:
    """Class names as a comparable text."""
    return {} if classes is None else {"class names": canonical(list(classes))}


def check_dtype(dtype: str) -> None:
    """Raises: UnknownNameError for a dtype that no store has."""
    if dtype not in DTYPES:
        raise unknown("store dtype", dtype, list(DTYPES))


def missing_files(folder: Path, manifest: Manifest) -> list[str]:
    """Files that a complete store lacks, or that have another size: no file is read."""
    listed = zip(["shared", *manifest.names], [manifest.shared, *(manifest.shards or [])], strict=True)
    missing = []
    for name, entry in listed:
        file = folder / f"{name}.safetensors"
        whole = entry is not None and file.is_file() and file.stat().st_size == entry.bytes
        if not whole or not (folder / f"{name}.json").is_file():
            missing.append(file.name)
    return missing


def require_complete(folder: Path, manifest: Manifest) -> None:
    """Raises: StoreError that says how many shards are absent and how to go on."""
    go_on = "run the embedding again with the same folder: only what is absent is computed"
    if manifest.shards is None:
        absent = manifest.count - len(list(folder.glob("shard-*.json")))
        raise StoreError(f"{folder} is incomplete: {absent} of {manifest.count} shards are missing; {go_on}")
    missing = missing_files(folder, manifest)
    if missing:
        raise StoreError(f"{folder} lacks {some(missing)}, absent or not of the size written; {go_on}")


def rows_of(raw: np.ndarray[Any, Any], manifest: Manifest, number: int, path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a mapped shard as raw rows, after its header was found to say what the manifest says."""
    try:
        length = int.from_bytes(raw[:8].tobytes(), "little")
        if length > raw.size - 8:
            raise ValueError(f"a header of {length} bytes in a file of {raw.size}")
        header = json.loads(raw[8 : 8 + length].tobytes())
        found = {}
        for part, width in manifest.widths.items():
            shape = (len(manifest.span(number)), width)
            begin, end = header[part]["data_offsets"]
            size = shape[0] * width * DTYPES[manifest.dtype].itemsize
            stated = (header[part]["dtype"], tuple(header[part]["shape"]), end - begin)
            if stated != (_SAFETENSORS[manifest.dtype], shape, size) or not 0 <= begin <= end <= raw.size - 8 - length:
                raise ValueError(f"{part} is {stated}, expected {shape} of {manifest.dtype}")
            found[part] = raw[8 + length + begin : 8 + length + end].view(RAW[manifest.dtype]).reshape(shape)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path} is no shard of this store: {error}; delete it and embed again") from error
    return found
