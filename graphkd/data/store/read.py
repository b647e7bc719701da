"""Teacher features on disk, read by position in place of asking the teacher."""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from graphkd.data.fingerprint import (
    class_terms,
    data_fingerprint,
    differences,
    order_fingerprint,
    some,
    transform_fingerprint,
)
from graphkd.data.sources import ImageSource
from graphkd.data.store.format import (
    KINDS,
    Array,
    Manifest,
    decode,
    load_file,
    read_json,
    require_complete,
    rows_of,
    shard_name,
)
from graphkd.data.transforms import Transform
from graphkd.errors import OptionError, StoreError
from graphkd.features import Features
from graphkd.files import local_path
from graphkd.teachers.base import Teacher
from graphkd.text import look_alikes
from graphkd.typing import Float, Int, Tensor

_LISTS = ("ids", "sizes", "content")  # of a sidecar, one entry a sample
_LOOK = 1.0  # seconds between two looks whether a mapped file was written to
_THREADS = min(8, os.cpu_count() or 1)  # that compare digests: hashlib and the disk work without the interpreter's lock
_CHOOSE = "choose another --store folder, or delete this one to embed again"
Index = int | Sequence[int] | Int[Tensor, " b"]


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
        self._shards: dict[int, dict[str, Array]] = {}
        self._stamps: dict[int, tuple[int, ...]] = {}
        self._looked = np.full(self.manifest.count, -np.inf)
        self._shared: dict[str, Tensor] | None = None
        self._listed: dict[str, list[Any]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardReader, (self.folder, self.manifest)

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
        shards = self._shards  # held until the rows are copied, whatever another thread maps anew
        order = np.argsort(number, kind="stable")
        present, starts = np.unique(number[order], return_index=True)
        spans = list(zip(present.tolist(), starts, [*starts[1:], len(rows)], strict=False))  # none of no rows
        local, back = local[order], np.argsort(order)
        found = {}
        for name in names:
            column = self.manifest.columns[name]
            by_shard = np.empty((len(rows), column.bytes), np.uint8)
            for shard, start, stop in spans:
                values = shards[shard][name]
                values.take(local[start:stop], axis=0, out=by_shard[start:stop], mode="clip")  # other modes copy twice
            found[name] = torch.empty(len(rows), column.width, dtype=KINDS[column.dtype][0])
            by_shard.take(back, axis=0, out=found[name].view(torch.uint8).numpy(), mode="clip")
        return found

    def shared(self) -> dict[str, Tensor]:
        """Proxies and their logits. Raises: StoreError if their file is damaged."""
        if self._shared is None:
            path, entry = self.folder / "shared.safetensors", self.entries["shared"]
            try:
                self._shared = load(load_file(path, entry.bytes, entry.digest).numpy().tobytes())
            except SafetensorError as error:
                raise StoreError(f"{path} is no file of this store: {error}; delete it and embed again") from error
        return self._shared

    def listed(self, key: str) -> list[Any]:
        """One entry per sample out of all sidecars, read once: only who asks for ids pays for them.

        Args:
            key: ``ids``, ``sizes`` or ``content``.
        """
        if self._listed is None:
            sidecars = [self.sidecar(name) for name in self.manifest.names]
            self._listed = {each: [value for body in sidecars for value in body[each]] for each in _LISTS}
        return self._listed[key]

    def sidecar(self, name: str) -> dict[str, Any]:
        """What a sidecar says. Raises: StoreError unless it is the one that the manifest lists."""
        path = self.folder / f"{name}.json"
        body, own = read_json(path)
        if own != self.entries[name].sidecar:
            raise StoreError(f"{path} is not the one written: repair the store, or delete it and embed again")
        if name != "shared":
            rows = len(self.manifest.span(int(name.removeprefix("shard-"))))
            if any(type(body.get(key)) is not list or len(body[key]) != rows for key in _LISTS):
                raise StoreError(f"{path} does not list {rows} samples: repair the store, or delete it and embed again")
        return body

    def damage(self) -> dict[str, str]:
        """Everything read again and compared with the manifest: what is wrong, by file name."""
        self._forget()
        with ThreadPoolExecutor(_THREADS) as pool:
            return {file: problem for found in pool.map(self._damage_of, self.entries) for file, problem in found}

    def _damage_of(self, name: str) -> list[tuple[str, str]]:
        found = []
        for suffix, check in (("safetensors", self._whole), ("json", self.sidecar)):
            try:
                check(name)
            except StoreError as error:
                found.append((f"{name}.{suffix}", str(error)))
        return found

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
            self._shards = self._shards | found
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


class EmbeddingStore:
    """A finished store of teacher features, memory-mapped, which returns what its teacher would return.

    ``store[batch.index]`` stands in for ``teacher(batch.teacher)``, and the store itself for the teacher where a
    distiller sizes itself (``PRGDistiller.between(student, store)``). A shard is compared with its digest when it is
    first touched, and again when its file was written to since. A store may be pickled and read from forked or spawned
    loader workers.

    Args:
        path: folder that :func:`graphkd.data.store.embed.embed` wrote.

    Attributes:
        embedding_dim: width d of the embedding.
        views: views of each sample.
        classes: the teacher's class names, or ``None``.
        num_classes: number of logits, or ``None`` for a teacher without head.
        by_text: whether the teacher's classes are texts, and its logits scaled cosines.

    Raises: StoreError for a missing, incomplete or damaged store.
    Example::

        store = EmbeddingStore("store")
        store.check(source=source, teacher=teacher, transform=transform)
        features = store[batch.index].to(device)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = local_path(path)
        self.manifest = Manifest.read(self.path)
        require_complete(self.path, self.manifest)
        self.embedding_dim = self.manifest.embedding_dim
        self.classes: Sequence[str] | None = self.manifest.classes
        self.num_classes = self.manifest.num_classes
        self.by_text = not {"prompts", "logit_scale"}.isdisjoint(self.manifest.teacher)
        self.views = self.manifest.views
        self._files = ShardReader(self.path, self.manifest)
        self._positions: Array | None = None  # of a view: its samples' rows in the store

    def __len__(self) -> int:
        return self.manifest.samples if self._positions is None else len(self._positions)

    def __repr__(self) -> str:
        widths = self.manifest.columns
        parts = ", ".join(f"{part} {widths[part].width}" for part in self.manifest.parts)
        views = f" of {self.views} views" if self.views > 1 else ""
        return f"EmbeddingStore({str(self.path)!r}: {len(self)} samples{views}, {parts}, {self.manifest.dtype})"

    @property
    def ids(self) -> list[str]:
        """Sample ids, in this store's order."""
        return self._list("ids")

    @property
    def sizes(self) -> list[int]:
        """Bytes of each sample when it was embedded."""
        return self._list("sizes")

    @property
    def content(self) -> list[str]:
        """A hash of each sample's bytes when it was embedded."""
        return self._list("content")

    def __getitem__(self, index: Index) -> Features:
        """Features of the samples at these positions, in float32 on the CPU; see :meth:`read`."""
        return self.read(index)

    def read(self, index: Index, view: Index | None = None) -> Features:
        """Features of samples, in float32 on the CPU.

        Args:
            index: positions in the data set (``Batch.index``), from 0; one integer is a batch of one.
            view: which view of each (``Batch.view``), from 0; needed where the store holds several.

        Shapes: (b,) -> embedding (b, d), logits (b, c), proxies (c, d), proxy_logits (c, c).
        Raises: StoreError for a position that the store does not hold, or a damaged shard; OptionError for a view that
            it does not hold.
        """
        made = self.manifest
        names = [name for name in made.columns if name != "drawn"]
        rows, shared = self._files.gather(self._rows(index, view), names), self.shared()
        values = {part: decode(part, rows, made.dtype) for part in made.parts}
        return Features(values["embedding"], values.get("logits"), shared.get("proxies"), shared.get("proxy_logits"))

    def drawn(self, index: Index, view: Index | None = None) -> Float[Tensor, "b p"]:
        """The numbers that describe each view's augmentation, for the transform's ``apply``.

        Args:
            index, view: as for :meth:`read`.

        Raises: StoreError for a store that was made without random views; else as :meth:`read`.
        """
        if not self.manifest.drawn:
            raise StoreError(f"{self.path} holds no augmentation: it was made with {self.manifest.transform}")
        return self._files.gather(self._rows(index, view), ["drawn"])["drawn"]

    def shared(self) -> dict[str, Tensor]:
        """What all samples share: proxies and proxy logits, as far as the teacher has them."""
        return self._files.shared()

    def for_source(self, source: ImageSource) -> "EmbeddingStore":
        """This store in the order of a source: another order, or a part of the samples, found by id.

        Raises: StoreError if a sample is absent or its size differs from that of the sample embedded.
        """
        if self._positions is None and self.manifest.order == order_fingerprint(source.ids):
            self.check(source=source)
            return self
        where = {name: position for position, name in enumerate(self.ids)}
        missing = [name for name in source.ids if name not in where]
        if missing:
            alike = look_alikes(missing, where)
            raise StoreError(f"{self.path} lacks {some(missing)}{alike} of the {len(source)} asked for: {_CHOOSE}")
        view = copy(self)
        local = np.array([where[name] for name in source.ids], dtype=np.int64)
        view._positions = local if self._positions is None else self._positions[local]
        view.check(source=source)
        return view

    def check(
        self, *, source: ImageSource | None = None, teacher: Teacher | None = None, transform: Transform | None = None
    ) -> None:
        """Compare with what a run is about to use; what is not given is not compared.

        Raises: StoreError that names each difference: teacher, prompts, class names, transform, samples, order.
        """
        found = []
        if teacher is not None:
            found += differences(self.manifest.teacher, teacher.fingerprint())
            found += differences(class_terms(self.classes), class_terms(teacher.classes))
        if transform is not None:
            found += differences(
                {"transform": self.manifest.transform}, {"transform": transform_fingerprint(transform)}
            )
        if source is not None:
            found += self._source_differences(source)
        if found:
            raise StoreError(f"{self.path} does not fit this run: {'; '.join(found)}. Please {_CHOOSE}")

    def _source_differences(self, source: ImageSource) -> list[str]:
        whole = self._positions is None and self.manifest.data == data_fingerprint(source)
        if whole and self.manifest.order == order_fingerprint(source.ids):
            return []
        ids, sizes = self.ids, self.sizes
        absent, extra = set(source.ids) - set(ids), set(ids) - set(source.ids)
        size_of = dict(zip(ids, sizes, strict=True))
        changed = [name for name, size in zip(source.ids, source.sizes, strict=True) if size_of.get(name, size) != size]
        changed = [] if self.manifest.imported else changed
        found = [
            *([f"the store lacks {some(sorted(absent))}{look_alikes(absent, extra)}"] if absent else []),
            *([f"this run lacks {some(sorted(extra))} of the store (use store.for_source(source))"] if extra else []),
            *([f"the size of {some(changed)} changed since embedding"] if changed else []),
        ]
        if not found and ids != list(source.ids):
            found.append("the samples are in another order (use store.for_source(source))")
        return found

    def _rows(self, index: Index, view: Index | None) -> Array:
        """Rows of the whole store."""
        positions = _integers(index, "positions")
        outside = positions[(positions < 0) | (positions >= len(self))]
        if len(outside):
            raise StoreError(
                f"position {outside[0]} is not in {self.path}, which holds {len(self)} samples (0 to {len(self) - 1}): "
                "use store.for_source(source) for the data set that the positions come from"
            )
        stored = positions if self._positions is None else self._positions[positions]
        if view is None and self.views == 1:
            return stored
        return stored * self.views + self._views(view, len(stored))

    def _views(self, view: Index | None, count: int) -> Array:
        if view is None:
            raise OptionError(
                f"{self.path} holds {self.views} views of each sample: store.read(batch.index, batch.view)"
            )
        views = _integers(view, "views")
        if len(views) not in (1, count) or ((views < 0) | (views >= self.views)).any():
            raise OptionError(
                f"expected {count} views in 0..{self.views - 1}, found {len(views)}"
                + (f" in {views.min()}..{views.max()}" if len(views) else "")
            )
        return views

    def _list(self, key: str) -> list[Any]:
        """One entry per sample."""
        values = self._files.listed(key)
        return values if self._positions is None else [values[position] for position in self._positions]


def _integers(index: Index, what: str) -> Array:
    try:
        values: Array = np.atleast_1d(index.numpy(force=True) if isinstance(index, Tensor) else np.asarray(index))
    except (ValueError, TypeError) as error:  # lists of different lengths, a number format that numpy has not
        raise StoreError(f"expected {what} as integers (b,), found {type(index).__name__}: {error}") from error
    if values.ndim != 1 or (values.dtype.kind not in "iu" and len(values)):
        raise StoreError(f"expected {what} as integers (b,), found {values.dtype} {values.shape}")
    return values.astype(np.int64)
