"""Writing a store shard by shard, by one process or by many: an interruption costs at most the shards under way."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from graphkd.data.fingerprint import differences, some
from graphkd.data.sources import Named
from graphkd.data.store.format import (
    MANIFEST,
    Entry,
    Manifest,
    encode,
    missing_files,
    read_json,
    read_pair,
    shard_name,
    write_pair,
)
from graphkd.errors import StoreError
from graphkd.features import Features
from graphkd.files import one_writer, remove_leftovers
from graphkd.typing import Tensor

_OURS = re.compile(r"\.?(manifest|shared|shard-\d+)\.(json|safetensors)(\.[0-9a-f]+\.tmp)?|\.writer-\d+-of-\d+\.lock")
_POLL = 0.2  # seconds between two looks at what the other ranks have finished


@dataclass(frozen=True)
class Share:
    """Which shards are this process's: those whose number leaves ``rank`` when divided by ``world``."""

    rank: int = 0
    world: int = 1

    @property
    def part(self) -> str:
        """What the lock of this share is called."""
        return f"writer-{self.rank}-of-{self.world}"

    @property
    def leads(self) -> bool:
        """Whether this process writes what there is one of: the manifest and the shared file."""
        return self.rank == 0

    def names(self, plan: Manifest) -> list[str]:
        """Files of this process, without their endings."""
        return [*(["shared"] if self.leads else []), *plan.names[self.rank :: self.world]]


@contextmanager
def one_store_writer(folder: Path, share: Share) -> Iterator[None]:
    """Keep every other process from writing these shards, and from a division of the store among other ranks.

    Raises: LockedError that names who writes.
    """
    with one_writer(folder, share.part):
        for lock in folder.glob(".writer-*-of-*.lock"):
            if not lock.stem.endswith(f"-of-{share.world}"):
                with one_writer(folder, lock.stem[1:]):  # nobody does: a killed process left it
                    pass
        yield


class StoreWriter:
    """Writes the shards that a folder lacks; each of several processes its own, rank 0 also the one manifest.

    One process writes a share at a time, see :func:`one_store_writer`.

    Args:
        folder: the store's folder; made if it is absent.
        plan: what is to be embedded; the shard size of a store begun earlier replaces the plan's.
        share: this process's part of the shards.

    Raises: StoreError if the folder holds another store (each difference named) or other files.
    """

    def __init__(self, folder: Path, plan: Manifest, share: Share | None = None) -> None:
        self.folder, self.mine = folder, share or Share()
        self.plan = self._claim(plan)
        self._clean()
        self.entries: dict[str, Entry] = {}
        self.find(self.mine.names(self.plan))

    def todo(self) -> list[int]:
        """Numbers of this process's shards that are to be computed."""
        mine = range(self.mine.rank, self.plan.count, self.mine.world)
        return [number for number in mine if shard_name(number) not in self.entries]

    def needs_shared(self) -> bool:
        """Whether the shared file is this process's and absent; any batch gives it."""
        return self.mine.leads and "shared" not in self.entries

    def share(self, features: Features) -> None:
        """Write what all samples share, once: proxies and their logits, in float32."""
        if not self.needs_shared():
            return
        parts = {"proxies": features.proxies, "proxy_logits": features.proxy_logits}
        tensors = {part: value.float().cpu().contiguous() for part, value in parts.items() if value is not None}
        for part, value in tensors.items():
            if not torch.isfinite(value).all():
                raise StoreError(f"the teacher's {part} are not finite: nothing is written")
        self.put("shared", tensors, {"plan": self.plan.terms()})

    def rows(self, features: Features, ids: Sequence[str]) -> dict[str, Tensor]:
        """A batch's rows as they are written, ready for :meth:`shard`.

        Args:
            ids: of the samples; features hold ``plan.views`` rows of each.

        Raises: StoreError that names the samples whose rows are not finite, or the width that does not fit.
        """
        rows: dict[str, Tensor] = {}
        for part in self.plan.parts:
            value = features.tensor(part, "EmbeddingStore")
            shape = (len(ids) * self.plan.views, self.plan.columns[part].width)
            if value.shape != shape:
                raise StoreError(f"the teacher's {part} are {tuple(value.shape)}, expected {shape}")
            encoded = encode(part, value, self.plan.dtype)
            finite = torch.cat([each.isfinite().cpu().view(len(ids), -1) for each in (value, *encoded.values())], 1)
            if broken := [name for name, good in zip(ids, finite.all(1).tolist(), strict=True) if not good]:
                raise StoreError(
                    f"the teacher's {part} in {self.plan.dtype} are not finite for {len(broken)} samples: "
                    f"{', '.join(broken[:5])}; their shard is not written: check these images and the teacher's "
                    "precision, or choose dtype='float32'"
                )
            rows |= encoded
        return rows

    def shard(self, number: int, rows: Sequence[dict[str, Tensor]], source: Named, content: list[str]) -> None:
        """Write one shard, then the sidecar that makes it count."""
        span = self.plan.span(number)
        about = {"ids": [source.ids[i] for i in span], "sizes": [int(source.sizes[i]) for i in span]}
        tensors = {name: torch.cat([each[name] for each in rows]) for name in self.plan.columns}
        self.put(shard_name(number), tensors, {**about, "content": content})

    def put(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Write a file, then its sidecar."""
        about = {"store": self.plan.identity, "name": name, **about}
        self.entries[name] = write_pair(self.folder / name, save(tensors), **about)

    def finish(self, patience: float = 0.0) -> None:
        """Rank 0 writes the manifest that lists all files, which makes the store one; the others wait for it.

        Args:
            patience: seconds without a new shard after which the other ranks are given up.

        Raises: StoreError that names the shards which other ranks left undone.
        """
        known, since = -1, time.monotonic()
        while absent := self._absent():
            if len(absent) != known:
                known, since = len(absent), time.monotonic()
            if time.monotonic() - since >= patience:
                raise StoreError(
                    f"{self.folder} is incomplete: rank {self.mine.rank} of {self.mine.world} has written its shards "
                    f"and lacks {some(absent)}, which other ranks write; what is written is kept: run them, or run "
                    "again, with any number of ranks"
                )
            time.sleep(min(_POLL, patience))
        if self.mine.leads:
            entries = [self.entries[name] for name in self.plan.names]
            replace(self.plan, shared=self.entries["shared"], shards=entries).write(self.folder)

    def _absent(self) -> list[str]:
        """For rank 0 the files that are not there and whole yet; for the others the manifest, until it lists theirs."""
        if self.mine.leads:
            self.find(self.plan.names)
            return [name for name in self.plan.names if name not in self.entries]
        try:
            made = Manifest.read(self.folder)
        except StoreError:
            return [MANIFEST]
        listed = {} if made.shards is None else made.listed()
        if made.identity == self.plan.identity and self.entries.items() <= listed.items():
            return missing_files(self.folder, made) if listed else [MANIFEST]
        present = {path.stem for path in self.folder.glob("shard-*.json")}
        return [name for name in self.plan.names if name not in present] + [MANIFEST]

    def find(self, names: Sequence[str]) -> None:
        """Note which of these files are there and whole."""
        for name in names:
            if name not in self.entries and (entry := finished(self.folder, name, self.plan.identity)):
                self.entries[name] = entry

    def _clean(self) -> None:
        """Remove what a killed run of this share left; other ranks may be writing theirs."""
        names = [*self.mine.names(self.plan), *(["manifest"] if self.mine.leads else [])]
        remove_leftovers(self.folder, *(f"{name}.{end}" for name in names for end in ("safetensors", "json")))

    def _claim(self, plan: Manifest) -> Manifest:
        """Take over the folder's manifest if it fits, or write one; an unfinished store lists no files."""
        if (self.folder / MANIFEST).is_file():
            made = Manifest.read(self.folder)
            require_same(self.folder, made, plan)
            # a finished store can be read in another order, but not continued in one
            _refuse(self.folder, differences({"order of samples": made.order}, {"order of samples": plan.order}))
            plan = replace(plan, shard_size=made.shard_size)
            if made.shards is None:
                return plan
        elif self.folder.is_dir():
            foreign = [file.name for file in self.folder.iterdir() if not self._is_ours(file, plan)]
            if (self.folder / MANIFEST).is_file():  # rank 0 wrote it since
                return self._claim(plan)
            if foreign:
                raise StoreError(
                    f"{self.folder} has no manifest but holds {some(sorted(foreign))}, other files or shards of "
                    "another store (or of another shard_size): choose an empty folder, or delete this one"
                )
        if self.mine.leads:
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


def finished(folder: Path, name: str, identity: str) -> Entry | None:
    """A file that is there, whole, and of this very store."""
    try:
        return read_pair(folder / name, store=identity, name=name)[2]
    except StoreError:
        return None


def require_same(folder: Path, made: Manifest, asked: Manifest) -> None:
    """Raises: StoreError that names each difference between a folder's store and what a run asks for."""
    _refuse(folder, made.differences(asked))


def _refuse(folder: Path, found: list[str]) -> None:
    if found:
        raise StoreError(
            f"{folder} belongs to something else: {'; '.join(found)}. Please choose another --store folder, or delete "
            "this one (for some of its samples only: EmbeddingStore(path).for_source(source))"
        )
