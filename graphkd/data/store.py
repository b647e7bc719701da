"""Teacher features on disk, read by position in place of asking the teacher."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from graphkd.data.files import load_file, read_json
from graphkd.data.fingerprint import data_fingerprint, differences, order_fingerprint, some, transform_fingerprint
from graphkd.data.source import ImageSource, Transform
from graphkd.data.store_format import DTYPES, RAW, Entry, Manifest, class_terms, require_complete, rows_of, shard_name
from graphkd.errors import StoreError
from graphkd.features import Features
from graphkd.teachers.base import Teacher
from graphkd.typing import Int, Tensor

_CHOOSE = "choose another --store folder, or delete this one to embed again"


class EmbeddingStore:
    """A finished store of teacher features, memory-mapped, which returns what its teacher would return.

    ``store[batch.index]`` stands in for ``teacher(batch.teacher)``, and the store itself for the teacher where a
    distiller sizes itself (``PRGDistiller.between(student, store)``). A shard is compared with its digest when it is
    first touched. A store may be pickled and read from forked or spawned loader workers.

    Args:
        path: folder that :func:`graphkd.data.embed.embed` wrote.

    Attributes:
        embedding_dim: width d of the embedding.
        classes: the teacher's class names, or ``None``.
        num_classes: number of logits, or ``None`` for a teacher without head.

    Raises: StoreError for a missing, incomplete or damaged store.
    Example::

        store = EmbeddingStore("store")
        store.check(source=source, teacher=teacher, transform=transform)
        features = store[batch.index].to(device)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        require_complete(self.path, self.manifest)
        self.embedding_dim = self.manifest.embedding_dim
        self.classes: Sequence[str] | None = self.manifest.classes
        self.num_classes = self.manifest.num_classes
        self._positions: np.ndarray[Any, Any] | None = None  # of a view: its samples' rows in the store
        self._forget()

    def _forget(self) -> None:
        self._rows: dict[int, dict[str, np.ndarray[Any, Any]]] = {}
        self._shared: dict[str, Tensor] | None = None
        self._listed: dict[str, list[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the files itself."""
        return {key: value for key, value in vars(self).items() if key not in ("_rows", "_shared", "_listed")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def __len__(self) -> int:
        return self.manifest.samples if self._positions is None else len(self._positions)

    def __repr__(self) -> str:
        parts = ", ".join(f"{part} {width}" for part, width in self.manifest.widths.items())
        return f"EmbeddingStore({str(self.path)!r}: {len(self)} samples, {parts}, {self.manifest.dtype})"

    @property
    def ids(self) -> list[str]:
        """Sample ids, in this store's order."""
        return self._list("ids")

    def __getitem__(self, index: int | Sequence[int] | Int[Tensor, " b"]) -> Features:
        """Features of the samples at these positions, in float32 on the CPU.

        Args:
            index: positions in the data set (``Batch.index``), from 0; one integer is a batch of one.

        Shapes: (b,) -> embedding (b, d), logits (b, c), proxies (c, d), proxy_logits (c, c).
        Raises: StoreError for a position that the store does not hold, or a damaged shard.
        """
        positions = self._stored(index)
        number, row = np.divmod(positions, self.manifest.shard_size)
        order = np.argsort(number, kind="stable")
        edges = np.flatnonzero(np.diff(number[order])) + 1
        bits = {
            part: np.empty((len(row), width), RAW[self.manifest.dtype]) for part, width in self.manifest.widths.items()
        }
        for at in np.split(order, edges) if len(order) else []:  # the samples of one shard at a time
            for part, rows in self._shard(int(number[at[0]])).items():
                bits[part][at] = rows[row[at]]
        dtype, shared = DTYPES[self.manifest.dtype], self._common()
        values = {part: torch.from_numpy(each).view(dtype).float() for part, each in bits.items()}
        return Features(values["embedding"], values.get("logits"), shared.get("proxies"), shared.get("proxy_logits"))

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
            raise StoreError(f"{self.path} lacks {some(missing)} of the {len(source)} asked for: {_CHOOSE}")
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

    def verify(self, source: ImageSource | None = None) -> None:
        """Read everything and compare it with its digests; with a source, its samples' bytes with those embedded.

        Raises: StoreError that names the damaged files, or the samples whose content changed.
        """
        problems = []
        for number in range(self.manifest.count):
            try:
                self._rows.pop(number, None)
                self._shard(number)
            except StoreError as error:
                problems.append(str(error))
        self._shared = self._listed = None
        self._common()
        self._list("content")
        if problems:
            raise StoreError("; ".join(problems))
        if source is not None:
            self.check(source=source)
            content = self._list("content")
            changed = [name for i, name in enumerate(source.ids) if source.content_hash(i) != content[i]]
            if changed:
                raise StoreError(f"{self.path}: the content of {some(changed)} changed since embedding: {_CHOOSE}")

    def _source_differences(self, source: ImageSource) -> list[str]:
        whole = self._positions is None and self.manifest.data == data_fingerprint(source)
        if whole and self.manifest.order == order_fingerprint(source.ids):
            return []
        ids, sizes = self.ids, self._list("sizes")
        absent, extra = set(source.ids) - set(ids), set(ids) - set(source.ids)
        size_of = dict(zip(ids, sizes, strict=True))
        changed = [name for name, size in zip(source.ids, source.sizes, strict=True) if size_of.get(name, size) != size]
        found = [
            *([f"the store lacks {some(sorted(absent))}"] if absent else []),
            *([f"this run lacks {some(sorted(extra))} of the store (use store.for_source(source))"] if extra else []),
            *([f"the size of {some(changed)} changed since embedding"] if changed else []),
        ]
        if not found and ids != list(source.ids):
            found.append("the samples are in another order (use store.for_source(source))")
        return found

    def _stored(self, index: int | Sequence[int] | Tensor) -> np.ndarray[Any, Any]:
        """Rows of the whole store."""
        positions = np.atleast_1d(index.numpy(force=True) if isinstance(index, Tensor) else np.asarray(index))
        if positions.ndim != 1 or (positions.dtype.kind not in "iu" and len(positions)):
            raise StoreError(f"expected positions as integers (b,), found {positions.dtype} {positions.shape}")
        outside = positions[(positions < 0) | (positions >= len(self))]
        if len(outside):
            raise StoreError(
                f"position {outside[0]} is not in {self.path}, which holds {len(self)} samples (0 to {len(self) - 1}): "
                "use store.for_source(source) for the data set that the positions come from"
            )
        positions = positions.astype(np.int64)
        return positions if self._positions is None else self._positions[positions]

    def _shard(self, number: int) -> dict[str, np.ndarray[Any, Any]]:
        if number not in self._rows:
            path = self.path / f"{shard_name(number)}.safetensors"
            entry = self._entries()[number]
            self._rows[number] = rows_of(load_file(path, entry.bytes, entry.digest), self.manifest, number, path)
        return self._rows[number]

    def _common(self) -> dict[str, Tensor]:
        if self._shared is None:
            entry = self.manifest.shared
            assert entry is not None  # a complete store has it
            self._shared = load(load_file(self.path / "shared.safetensors", entry.bytes, entry.digest).tobytes())
        return self._shared

    def _list(self, key: str) -> list[Any]:
        """One entry per sample out of all sidecars, read once: only who asks for ids pays for them."""
        if self._listed is None:
            listed: dict[str, list[Any]] = {"ids": [], "sizes": [], "content": []}
            for name, entry in zip(self.manifest.names, self._entries(), strict=True):
                body, own = read_json(self.path / f"{name}.json")
                if own != entry.sidecar:
                    raise StoreError(f"{self.path / name}.json is not the one written: delete it and embed again")
                for each, values in listed.items():
                    values.extend(body[each])
            self._listed = listed
        values = self._listed[key]
        return values if self._positions is None else [values[position] for position in self._positions]

    def _entries(self) -> list[Entry]:
        assert self.manifest.shards is not None  # a complete store has them
        return self.manifest.shards
