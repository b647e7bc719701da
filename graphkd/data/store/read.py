"""Rows of a store's shards, memory-mapped, each shard compared with its digest before its first row is handed out."""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load

from graphkd.data.store.codec import Array
from graphkd.data.store.files import load_file, read_json
from graphkd.data.store.format import Manifest, rows_of, shard_name
from graphkd.data.store.maps import Maps
from graphkd.errors import StoreError
from graphkd.typing import Tensor

_LOOK = 1.0  # seconds between two looks whether a mapped file was written to
_THREADS = min(8, os.cpu_count() or 1)  # that compare digests: hashlib and the disk work without the interpreter's lock


class ShardReader:
    """The files of a complete store. Pickled, it carries no rows: another process maps the files itself.

    Args:
        folder: of the store.
        manifest: that lists its files.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.entries = manifest.listed()
        self._forget()

    def _forget(self) -> None:
        self._maps = Maps({}, self.manifest)
        self._stamps: dict[int, tuple[int, ...]] = {}
        self._looked = np.full(self.manifest.count, -np.inf)
        self._shared: dict[str, Tensor] | None = None
        self._listed: dict[str, list[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "manifest": self.manifest, "entries": self.entries}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def gather(self, rows: Array, names: Iterable[str]) -> dict[str, Tensor]:
        """Some rows of some tensors, in the order asked for, in the number format of the store.

        Args:
            rows: numbers in the whole store, from 0.
            names: tensors of a shard.

        Shapes: rows (n,) -> (n, width) each.
        Raises: StoreError for a damaged shard.
        """
        number, local = np.divmod(rows, self.manifest.shard_size * self.manifest.views)
        self._load(number)
        maps = self._maps  # held until the rows are copied, whatever another thread maps anew
        return {name: maps.rows(name, number, local) for name in names}

    def shared(self) -> dict[str, Tensor]:
        """Proxies and their logits. Raises: StoreError if their file is damaged."""
        if self._shared is None:
            path, entry = self.folder / "shared.safetensors", self.entries["shared"]
            try:
                self._shared = load(load_file(path, entry.bytes, entry.digest).tobytes())
            except SafetensorError as error:
                raise StoreError(f"{path} is no file of this store: {error}; delete it and embed again") from error
        return self._shared

    def listed(self, key: str) -> list[Any]:
        """One entry per sample out of all sidecars, read once: only who asks for ids pays for them.

        Args:
            key: ``ids``, ``sizes`` or ``content``.
        """
        if self._listed is None:
            found: dict[str, list[Any]] = {"ids": [], "sizes": [], "content": []}
            for number in range(self.manifest.count):
                body = self.sidecar(shard_name(number))
                for each, values in found.items():
                    values.extend(body[each])
            self._listed = found
        return self._listed[key]

    def sidecar(self, name: str) -> dict[str, Any]:
        """What a sidecar says. Raises: StoreError unless it is the one that the manifest lists."""
        path = self.folder / f"{name}.json"
        body, own = read_json(path)
        if own != self.entries[name].sidecar:
            raise StoreError(f"{path} is not the one written: repair the store, or delete it and embed again")
        if name != "shared":
            rows = len(self.manifest.span(int(name.removeprefix("shard-"))))
            if any(type(body.get(key)) is not list or len(body[key]) != rows for key in ("ids", "sizes", "content")):
                raise StoreError(f"{path} does not list {rows} samples: repair the store, or delete it and embed again")
        return body

    def damage(self, names: Sequence[str] | None = None) -> dict[str, str]:
        """Everything read again and compared with the manifest: what is wrong, by file name."""
        self._forget()

        def look(name: str) -> dict[str, str]:
            found = {}
            for suffix, check in (("safetensors", self._whole), ("json", self.sidecar)):
                try:
                    check(name)
                except StoreError as error:
                    found[f"{name}.{suffix}"] = str(error)
            return found

        with ThreadPoolExecutor(_THREADS) as pool:
            each = list(pool.map(look, self.entries if names is None else names))
        return {file: problem for found in each for file, problem in found.items()}

    def _whole(self, name: str) -> None:
        if name == "shared":
            self.shared()
        else:
            self._verified(int(name.removeprefix("shard-")))

    def _verified(self, number: int) -> dict[str, Array]:
        name = shard_name(number)
        path, entry = self.folder / f"{name}.safetensors", self.entries[name]
        return rows_of(load_file(path, entry.bytes, entry.digest), self.manifest, number, path)

    def _load(self, numbers: Array) -> None:
        """Map what is not mapped yet, and again what was written to; a look at a file costs as much as ten rows."""
        now = time.monotonic()
        old = numbers[self._looked[numbers] < now - _LOOK]
        if not len(old):
            return
        stamps = {number: self._stamp(number) for number in np.unique(old).tolist()}
        absent = [number for number, stamp in stamps.items() if self._stamps.get(number) != stamp]
        if absent:
            with ThreadPoolExecutor(_THREADS) as pool:
                found = dict(zip(absent, pool.map(self._verified, absent), strict=True))
            self._maps = Maps({**self._maps.shards, **found}, self.manifest)
            self._stamps |= {number: stamps[number] for number in absent}
        self._looked[list(stamps)] = now

    def _stamp(self, number: int) -> tuple[int, ...]:
        """What changes when somebody writes to the file."""
        path = self.folder / f"{shard_name(number)}.safetensors"
        try:
            found = path.stat()
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error}): repair the store, or embed again") from error
        return found.st_size, found.st_mtime_ns, found.st_ino
