"""What a store is, whether it is whole, how to repair it, and how to merge several: each answer a record."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from graphkd.data.fingerprint import class_terms, data_fingerprint, differences, order_fingerprint, some
from graphkd.data.sources import ImageSource
from graphkd.data.store.embed import EmbedJob, fill, plan_store
from graphkd.data.store.format import (
    MANIFEST,
    Entry,
    Manifest,
    check_shards,
    largest_shard,
    missing_files,
    read_json,
    row_bytes,
    shard_name,
)
from graphkd.data.store.read import EmbeddingStore, ShardReader
from graphkd.data.store.write import Share, StoreWriter, finished, one_store_writer, require_same
from graphkd.errors import StoreError
from graphkd.files import local_path, write_file
from graphkd.typing import Tensor


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds, without reading its features.

    Args:
        path: its folder.
        manifest: what it was made of.
        complete: whether every file is there and of the size written.
        absent: files that are not, without their endings.
        bytes: on the disk, of all its files.
    """

    path: Path
    manifest: Manifest
    complete: bool
    absent: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class VerifyReport:
    """What was compared with its digest, and what does not fit.

    Args:
        path: the folder.
        files: names of the files that were compared.
        damaged: file name -> what is wrong with it; a file that is missing counts.
        changed: ids of samples whose bytes are not those that were embedded, where a source was given.
    """

    path: Path
    files: tuple[str, ...]
    damaged: dict[str, str] = field(default_factory=dict)
    changed: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damaged and not self.changed


@dataclass(frozen=True)
class RepairReport:
    """What was mended.

    Args:
        damaged: as of :class:`VerifyReport`, before.
        embedded: samples that the teacher was asked about again.
        store: the store, whole.
    """

    damaged: dict[str, str]
    embedded: int
    store: EmbeddingStore


def info(path: str | Path) -> StoreInfo:
    """What a store holds. Raises: StoreError for a folder without a manifest that can be read."""
    folder = local_path(path)
    made = Manifest.read(folder)
    names = ["shared", *made.names]
    if made.shards is None:
        absent = [name for name in names if not (folder / f"{name}.json").is_file()]
    else:
        absent = [name.removesuffix(".safetensors") for name in missing_files(folder, made)]
    files = [folder / MANIFEST, *(folder / f"{name}.{end}" for name in names for end in ("safetensors", "json"))]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return StoreInfo(folder, made, made.shards is not None and not absent, tuple(absent), size)


def verify(path: str | Path, source: ImageSource | None = None) -> VerifyReport:
    """Read every file of a store and compare it with its digest.

    Args:
        path: the folder.
        source: compare its samples' bytes with those that were embedded, too.

    Raises: StoreError if neither the manifest nor its copy in ``shared.json`` can be read, or the source holds other
        samples.
    Example: ``verify("features").whole``
    """
    folder, damaged = local_path(path), {}
    try:
        made = Manifest.read(folder)
    except StoreError as error:
        damaged[MANIFEST] = str(error)
        made = _plan_of(folder, error)
    if made.shards is None:
        damaged.setdefault(MANIFEST, f"{folder} is incomplete: its manifest lists no files")
        made = _as_listed(folder, made)
    reader = ShardReader(folder, made)
    damaged |= reader.damage()
    changed: list[str] = []
    if source is not None and not damaged:
        changed = EmbeddingStore(folder).for_source(source).changed(source)
    files = [MANIFEST, *(f"{name}.{end}" for name in reader.entries for end in ("safetensors", "json"))]
    return VerifyReport(folder, tuple(files), damaged, tuple(changed))


def repair(path: str | Path, job: EmbedJob) -> RepairReport:
    """Embed again what is damaged or missing, and nothing else; a lost manifest is made again from its copy.

    Args:
        path: the folder; its dtype, views and shard size are kept.
        job: the teacher, source and transform that the store was made with, and how to run them.

    Raises: StoreError if these differ from what the store was made of (each difference named), or neither the manifest
        nor its copy can be read; LockedError while another process writes the store.
    Example: ``repair("features", EmbedJob(teacher, source, CenterView(224))).embedded``
    """
    folder, damaged = local_path(path), verify(path).damaged
    try:
        made = Manifest.read(folder)
    except StoreError as error:
        made = _plan_of(folder, error)
    plan = plan_store(job, made.dtype, made.views, made.shard_size)
    require_same(folder, made, plan)
    if not damaged:
        return RepairReport({}, 0, EmbeddingStore(folder))
    with one_store_writer(folder, Share()):
        if MANIFEST in damaged:
            replace(made, shared=None, shards=None).write(folder)
        for name in {file.partition(".")[0] for file in damaged} - {"manifest"}:
            (folder / f"{name}.json").unlink(missing_ok=True)  # without its sidecar a shard does not count
        writer = StoreWriter(folder, plan)
        embedded = fill(writer, job)
        writer.finish()
    return RepairReport(damaged, embedded, EmbeddingStore(folder))


def _plan_of(folder: Path, error: StoreError) -> Manifest:
    """What an unreadable manifest said, from its copy."""
    path = folder / "shared.json"
    try:
        body, _ = read_json(path)
        return Manifest.parse(body["plan"], path)
    except (StoreError, KeyError, TypeError, AttributeError) as second:
        raise StoreError(
            f"{error}. Its copy is of no help either ({second}): embed again into this folder with the same arguments; "
            "shards that fit are kept"
        ) from error


def _as_listed(folder: Path, made: Manifest) -> Manifest:
    """An incomplete store as its sidecars describe it; what has none is listed as a file that cannot be."""
    entries = {name: _entry(folder, name, made.identity) for name in ["shared", *map(shard_name, range(made.count))]}
    return replace(made, shared=entries.pop("shared"), shards=list(entries.values()))


def _entry(folder: Path, name: str, identity: str) -> Entry:
    try:
        body, own = read_json(folder / f"{name}.json")
        if (body["store"], body["name"]) == (identity, name):
            return Entry(body["bytes"], body["digest"], own)
    except (StoreError, KeyError):
        pass
    return Entry(-1, "", "")


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
    lacking = [name for name in ["shared", *writer.plan.names] if name not in writer.entries]
    for name in lacking:
        found = next((each for each in folders if finished(each, name, writer.plan.identity)), None)
        for suffix in ("safetensors", "json"):  # the sidecar last: it makes the shard count
            if found is not None:
                write_file(target / f"{name}.{suffix}", (found / f"{name}.{suffix}").read_bytes())
    writer.find(lacking)
    absent = tuple(name for name in lacking if name not in writer.entries)
    if not absent:
        writer.finish()
    return MergeReport(target, made.samples, len(lacking) - len(absent), absent)


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
