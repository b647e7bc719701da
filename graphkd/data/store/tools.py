"""What a store is, whether it is whole, and how to mend it: each answer a record, nothing printed."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from graphkd.data.source import ImageSource
from graphkd.data.store.embed import Look, fill, plan_store
from graphkd.data.store.files import read_json
from graphkd.data.store.format import MANIFEST, Entry, Manifest, missing_files, shard_name
from graphkd.data.store.read import ShardReader
from graphkd.data.store.store import EmbeddingStore
from graphkd.data.store.write import Share, StoreWriter, one_store_writer, require_same
from graphkd.errors import StoreError
from graphkd.paths import local_path


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
        store = EmbeddingStore(folder).for_source(source)
        pairs = zip(source.ids, store.content, strict=True)
        changed = [name for i, (name, content) in enumerate(pairs) if source.content_hash(i) != content]
    files = [MANIFEST, *(f"{name}.{end}" for name in reader.entries for end in ("safetensors", "json"))]
    return VerifyReport(folder, tuple(files), damaged, tuple(changed))


def repair(path: str | Path, look: Look) -> RepairReport:
    """Embed again what is damaged or missing, and nothing else; a lost manifest is made again from its copy.

    Args:
        path: the folder; its dtype, views and shard size are kept.
        look: the teacher, source and transform that the store was made with, and how to run them.

    Raises: StoreError if these differ from what the store was made of (each difference named), or neither the manifest
        nor its copy can be read; LockedError while another process writes the store.
    Example: ``repair("features", Look(teacher, source, CenterView(224))).embedded``
    """
    folder, damaged = local_path(path), verify(path).damaged
    try:
        made = Manifest.read(folder)
    except StoreError as error:
        made = _plan_of(folder, error)
    plan = plan_store(look, made.dtype, made.views, made.shard_size)
    require_same(folder, made, plan)
    if not damaged:
        return RepairReport({}, 0, EmbeddingStore(folder))
    with one_store_writer(folder, Share()):
        if MANIFEST in damaged:
            replace(made, shared=None, shards=None).write(folder)
        for name in {file.partition(".")[0] for file in damaged} - {"manifest"}:
            (folder / f"{name}.json").unlink(missing_ok=True)  # without its sidecar a shard does not count
        writer = StoreWriter(folder, plan)
        embedded = fill(writer, look)
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
