"""One store out of several folders: parts of one store, or stores of different samples."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from graphkd.data.fingerprint import data_fingerprint, differences, order_fingerprint, some
from graphkd.data.store.format import MANIFEST, Manifest, check_shards, class_terms, largest_shard, row_bytes
from graphkd.data.store.store import EmbeddingStore
from graphkd.data.store.write import Share, StoreWriter, finished, one_store_writer
from graphkd.errors import StoreError
from graphkd.files import write_file
from graphkd.paths import local_path
from graphkd.typing import Tensor


@dataclass(frozen=True)
class MergeReport:
    """What came together.

    Args:
        path: the merged store's folder.
        samples: it is made of.
        written: shards that were copied or written.
        absent: files that no folder had; empty where the store is complete.
    """

    path: Path
    samples: int
    written: int
    absent: tuple[str, ...]


@dataclass(frozen=True)
class _Joined:
    """The samples of several stores, one after the other."""

    ids: list[str]
    sizes: list[int]
    content: list[str]


def merge(parts: Sequence[str | Path], path: str | Path) -> MergeReport:
    """Bring several folders together in one; every shard is compared with its digest on the way.

    Folders into which different ranks wrote shards of one store become that store, complete or still to be completed.
    Complete stores of different samples, made alike, become one store of all samples in the order of the folders.

    Args:
        parts: the folders, which stay as they are.
        path: the new folder; one that holds a part of the same merge already is continued.

    Raises: StoreError for stores that were made differently (each difference named), samples that two stores hold, or
        damage.
    Example: ``merge(["machine0", "machine1"], "features").absent``
    """
    folders, target = [local_path(part) for part in parts], local_path(path)
    made = [Manifest.read(folder) for folder in folders if (folder / MANIFEST).is_file()]
    if not made:
        raise StoreError(f"none of {', '.join(map(str, folders)) or 'no folder'} holds a manifest: give rank 0's too")
    if len({each.identity for each in made}) == 1:
        with one_store_writer(target, Share()):
            return _gathered(folders, made[0], target)
    stores = [EmbeddingStore(folder) for folder in folders]
    joined = _joined(stores)
    with one_store_writer(target, Share()):
        return _concatenated(stores, joined, target)


def _gathered(folders: Sequence[Path], made: Manifest, target: Path) -> MergeReport:
    """Shards of one store, copied from wherever one is whole."""
    writer = StoreWriter(target, replace(made, shared=None, shards=None))
    written, absent = 0, []
    for name in ["shared", *writer.plan.names]:
        if name in writer.entries:
            continue
        found = next((each for each in folders if finished(each, name, writer.plan.identity)), None)
        if found is None:
            absent.append(name)
            continue
        for suffix in ("safetensors", "json"):  # the sidecar last: it makes the shard count
            write_file(target / f"{name}.{suffix}", (found / f"{name}.{suffix}").read_bytes())
        entry = finished(target, name, writer.plan.identity)
        assert entry is not None
        writer.entries[name] = entry
        written += 1
    if not absent:
        writer.finish()
    return MergeReport(target, made.samples, written, tuple(absent))


def _joined(stores: Sequence[EmbeddingStore]) -> _Joined:
    """The samples of all stores. Raises: StoreError for a sample in two of them, or stores made differently."""
    _require_alike(stores)
    joined = _Joined(
        [name for store in stores for name in store.ids],
        [size for store in stores for size in store.sizes],
        [content for store in stores for content in store.content],
    )
    if len(set(joined.ids)) < len(joined.ids):
        twice = [name for name, count in Counter(joined.ids).items() if count > 1]
        raise StoreError(f"two of the stores hold {some(twice)}: each sample must come from one store")
    return joined


def _concatenated(stores: Sequence[EmbeddingStore], joined: _Joined, target: Path) -> MergeReport:
    """Rows of several stores, cut into shards anew."""
    first = stores[0].manifest
    longest = max(map(row_bytes, joined.ids, joined.sizes))
    plan = replace(
        first,
        samples=len(joined.ids),
        shard_size=min(max(store.manifest.shard_size for store in stores), largest_shard(longest)),
        data=data_fingerprint(joined),
        order=order_fingerprint(joined.ids),
        shared=None,
        shards=None,
    )
    check_shards(plan, longest)
    writer = StoreWriter(target, plan)
    todo = writer.todo()
    if writer.needs_shared():
        writer.put("shared", stores[0].shared(), {"plan": writer.plan.terms()})
    for number in todo:
        span = writer.plan.span(number)
        writer.shard(number, _rows(stores, span), joined, [joined.content[i] for i in span])
    writer.finish()
    return MergeReport(target, plan.samples, len(todo), ())


def _rows(stores: Sequence[EmbeddingStore], span: range) -> list[dict[str, Tensor]]:
    """Samples at positions of all stores in a row."""
    found, start = [], 0
    for store in stores:
        inside = range(max(span.start - start, 0), min(span.stop - start, len(store)))
        if len(inside):
            found.append(store.stored(inside))
        start += len(store)
    return found


def _require_alike(stores: Sequence[EmbeddingStore]) -> None:
    first = stores[0].manifest
    for store in stores[1:]:
        made = store.manifest
        terms = [
            each.teacher
            | class_terms(each.classes)
            | {"transform": each.transform, "dtype": each.dtype, "views": str(each.views)}
            for each in (first, made)
        ]
        if found := differences(*terms):
            raise StoreError(
                f"{stores[0].path} and {store.path} were made differently: "
                + "; ".join(found).replace("the store was", "the first was").replace("this run asks", "the other has")
            )
