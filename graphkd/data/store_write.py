"""Writing a store shard by shard, so that an interruption costs at most the shard under way."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from graphkd.data.files import read_json, write_file, write_json
from graphkd.data.fingerprint import differences, digest, some
from graphkd.data.source import ImageSource
from graphkd.data.store_format import DTYPES, MANIFEST, Entry, Manifest, shard_name
from graphkd.errors import StoreError
from graphkd.features import Features
from graphkd.typing import Tensor

_OURS = re.compile(r"\.?(manifest|shared|shard-\d+)\.(json|safetensors)(\.tmp)?")


class StoreWriter:
    """Writes the shards that a folder lacks; one process at a time.

    Args:
        folder: the store's folder; made if it is absent.
        plan: what is to be embedded; the shard size of a store begun earlier replaces the plan's.

    Raises: StoreError if the folder holds another store (each difference named) or other files.
    """

    def __init__(self, folder: Path, plan: Manifest) -> None:
        self.folder = folder
        self.plan = self._claim(plan)
        for leftover in [file for file in folder.glob(".*.tmp") if _OURS.fullmatch(file.name)]:
            leftover.unlink()
        self.entries: dict[str, Entry] = {}
        for name in ["shared", *self.plan.names]:
            entry = self._finished(name)
            if entry is not None:
                self.entries[name] = entry

    def todo(self) -> list[int]:
        """Numbers of the shards to compute; one at least where the shared file is absent, which a batch gives."""
        absent = [number for number, name in enumerate(self.plan.names) if name not in self.entries]
        return absent or ([0] if "shared" not in self.entries else [])

    def share(self, features: Features) -> None:
        """Write what all samples share, once: proxies and their logits, in float32."""
        if "shared" in self.entries:
            return
        parts = {"proxies": features.proxies, "proxy_logits": features.proxy_logits}
        tensors = {part: value.float().cpu().contiguous() for part, value in parts.items() if value is not None}
        for part, value in tensors.items():
            if not torch.isfinite(value).all():
                raise StoreError(f"the teacher's {part} are not finite: nothing is written")
        self._put("shared", tensors, {})

    def rows(self, features: Features, ids: list[str]) -> dict[str, Tensor]:
        """A batch's rows in the store's dtype, ready for :meth:`shard`.

        Raises: StoreError that names the samples whose rows are not finite, or the width that does not fit.
        """
        rows = {}
        for part, width in self.plan.widths.items():
            value = features.tensor(part, "EmbeddingStore")
            if value.shape != (len(ids), width):
                raise StoreError(f"the teacher's {part} are {tuple(value.shape)}, expected {(len(ids), width)}")
            rows[part] = value.to("cpu", DTYPES[self.plan.dtype])
            finite = torch.isfinite(rows[part]).all(1).tolist()
            broken = [name for name, good in zip(ids, finite, strict=True) if not good]
            if broken:
                raise StoreError(
                    f"the teacher's {part} in {self.plan.dtype} are not finite for {len(broken)} samples: "
                    f"{', '.join(broken[:5])}; their shard is not written: check these images and the teacher's "
                    "precision, or choose dtype='float32'"
                )
        return rows

    def shard(self, number: int, rows: list[dict[str, Tensor]], source: ImageSource, content: list[str]) -> None:
        """Write one shard, then the sidecar that makes it count."""
        span = self.plan.span(number)
        about = {"ids": [source.ids[i] for i in span], "sizes": [int(source.sizes[i]) for i in span]}
        tensors = {part: torch.cat([each[part] for each in rows]) for part in self.plan.widths}
        self._put(shard_name(number), tensors, {**about, "content": content})

    def finish(self) -> None:
        """Write the manifest that lists all files: from now on the store can be opened."""
        shards = [self.entries[name] for name in self.plan.names]
        replace(self.plan, shared=self.entries["shared"], shards=shards).write(self.folder)

    def _put(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        data = save(tensors)
        body = {"store": self.plan.identity, "name": name, "bytes": len(data), "digest": digest(data), **about}
        write_file(self.folder / f"{name}.safetensors", data)
        sidecar = write_json(self.folder / f"{name}.json", body)
        self.entries[name] = Entry(len(data), body["digest"], sidecar)

    def _finished(self, name: str) -> Entry | None:
        """A file that is there, whole, and of this very store."""
        try:
            body, sidecar = read_json(self.folder / f"{name}.json")
            if (body["store"], body["name"]) != (self.plan.identity, name):
                return None
            data = (self.folder / f"{name}.safetensors").read_bytes()
        except (StoreError, OSError, KeyError):
            return None
        entry = Entry(len(data), digest(data), sidecar)
        return entry if (entry.bytes, entry.digest) == (body["bytes"], body["digest"]) else None

    def _claim(self, plan: Manifest) -> Manifest:
        """Take over the folder's manifest if it fits, or write one; an unfinished store lists no files."""
        if (self.folder / MANIFEST).is_file():
            made = Manifest.read(self.folder)
            require_same(self.folder, made, plan)
            # a finished store can be read in another order, but not continued in one
            _refuse(self.folder, differences({"order of samples": made.order}, {"order of samples": plan.order}))
            plan = replace(plan, shard_size=made.shard_size)
        elif self.folder.is_dir():
            foreign = [file.name for file in self.folder.iterdir() if not self._is_ours(file, plan)]
            if foreign:
                raise StoreError(
                    f"{self.folder} has no manifest but holds {some(sorted(foreign))}, other files or shards of "
                    "another store (or of another shard_size): choose an empty folder, or delete this one"
                )
        plan.write(self.folder)
        return plan

    def _is_ours(self, file: Path, plan: Manifest) -> bool:
        """Whether a file belongs to this store, or is so damaged that nobody can say."""
        if not _OURS.fullmatch(file.name):
            return False
        try:
            return bool(file.suffix != ".json" or read_json(file)[0].get("store") == plan.identity)
        except StoreError:
            return True


def require_same(folder: Path, made: Manifest, asked: Manifest) -> None:
    """Raises: StoreError that names each difference between a folder's store and what a run asks for."""
    _refuse(folder, made.differences(asked))


def _refuse(folder: Path, found: list[str]) -> None:
    if found:
        raise StoreError(
            f"{folder} belongs to something else: {'; '.join(found)}. Please choose another --store folder, or delete "
            "this one (for some of its samples only: EmbeddingStore(path).for_source(source))"
        )
