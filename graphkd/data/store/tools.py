"""What a store is, whether it is whole, how to repair it, and how to bring its parts together."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from graphkd.data.sources import ImageSource
from graphkd.data.store.embed import EmbedJob, fill, plan_store
from graphkd.data.store.format import MANIFEST, Manifest, missing_files, read_json, read_pair
from graphkd.data.store.read import EmbeddingStore, ShardReader
from graphkd.data.store.write import Share, StoreWriter, finished, one_store_writer, require_same
from graphkd.errors import StoreError
from graphkd.files import local_path, write_file

_ENDINGS = ("safetensors", "json")  # in the order of writing: the sidecar makes a file count


class Mended(NamedTuple):
    """What :func:`repair` did.

    Args:
        damaged: as of :func:`verify`, before.
        embedded: samples that the teacher was asked about again.
    """

    damaged: dict[str, str]
    embedded: int


def info(path: str | Path) -> dict[str, Any]:
    """What a store holds, JSON-ready, without reading its features.

    ``absent`` lists files that are not there, without their endings; ``complete`` says whether every file is there and
    of the size written; ``bytes`` counts all files on the disk.

    Raises: StoreError for a folder without a manifest that can be read.
    Example: ``info("features")["samples"]``
    """
    folder = local_path(path)
    made = Manifest.read(folder)
    files = {name: [folder / f"{name}.{ending}" for ending in _ENDINGS] for name in ["shared", *made.names]}
    present = [
        file for file in [folder / MANIFEST, *(each for pair in files.values() for each in pair)] if file.is_file()
    ]
    return {
        "complete": made.shards is not None and not missing_files(folder, made),
        "absent": [name for name, pair in files.items() if not all(file.is_file() for file in pair)],
        "samples": made.samples,
        "shards": made.count,
        "widths": {"embedding": made.embedding_dim, "logits": made.num_classes},
        "dtype": made.dtype,
        "views": made.views,
        "bytes": sum(file.stat().st_size for file in present),
        "classes": made.classes,
        "transform": json.loads(made.transform),
        "teacher": made.teacher,
    }


def verify(path: str | Path, source: ImageSource | None = None) -> dict[str, str]:
    """Read every file of a store and compare it with its digest: what is wrong, by file name. Nothing is: it is whole.

    Args:
        path: the folder.
        source: compare its samples' bytes with those that were embedded, too; what changed is named by its id.

    Raises: StoreError if neither the manifest nor its copy in ``shared.json`` can be read, or the source holds other
        samples.
    Example: ``verify("features") == {}``
    """
    folder = local_path(path)
    made, damaged = _made(folder)
    if made.shards is not None:
        damaged |= ShardReader(folder, made).damage()
    for name in ["shared", *made.names] if made.shards is None else ():
        try:
            read_pair(folder / name, store=made.identity, name=name)
        except StoreError as error:
            damaged[f"{name}.safetensors"] = str(error)
    if source is not None and not damaged:
        content = EmbeddingStore(folder).for_source(source).content
        known = () if made.imported else enumerate(source.ids)
        changed = [name for at, name in known if source.content_hash(at) != content[at]]
        damaged |= dict.fromkeys(changed, "the image changed since it was embedded")
    return damaged


def repair(path: str | Path, job: EmbedJob) -> Mended:
    """Embed again what is damaged or missing, and nothing else; a lost manifest is made again from its copy.

    Args:
        path: the folder; its dtype, views and shard size are kept.
        job: the teacher, source and transform that the store was made with, and how to run them.

    Raises: StoreError if these differ from what the store was made of (each difference named), or neither the manifest
        nor its copy can be read; LockedError while another process writes the store.
    Example: ``repair("features", EmbedJob(teacher, source, CenterView(224))).embedded``
    """
    folder, damaged = local_path(path), verify(path)
    made, _ = _made(folder)
    plan = plan_store(job, made.dtype, made.views, made.shard_size)
    require_same(folder, made, plan)
    if not damaged:
        return Mended({}, 0)
    with one_store_writer(folder, Share()):
        for name in {file.partition(".")[0] for file in damaged}:
            sidecar = folder / f"{name}.json"
            if sidecar.is_dir():
                raise StoreError(f"{sidecar} is a folder where the store has a file: move it away and repair again")
            sidecar.unlink(missing_ok=True)  # without its sidecar a shard does not count
        writer = StoreWriter(folder, plan)
        embedded = fill(writer, job)
        writer.finish()
    return Mended(damaged, embedded)


def _made(folder: Path) -> tuple[Manifest, dict[str, str]]:
    """What a store was made of, from the manifest or its copy, and what is wrong with the manifest."""
    try:
        made = Manifest.read(folder)
    except StoreError as error:
        return _copy(folder, error), {MANIFEST: str(error)}
    incomplete = {MANIFEST: f"{folder} is incomplete: its manifest lists no files"}
    return made, incomplete if made.shards is None else {}


def _copy(folder: Path, error: StoreError) -> Manifest:
    """What an unreadable manifest said."""
    path = folder / "shared.json"
    try:
        body, _ = read_json(path)
        return Manifest.parse(body["plan"], path)
    except (StoreError, KeyError, TypeError, AttributeError) as second:
        raise StoreError(
            f"{error}. Its copy is of no help either ({second}): embed again into this folder with the same arguments; "
            "shards that fit are kept"
        ) from error


def merge(parts: Sequence[str | Path], path: str | Path) -> list[str]:
    """Bring folders together into which several ranks wrote shards of one store; returns what none of them has.

    Every shard is compared with its digest on the way. Where nothing is absent, the new folder is the complete store.

    Args:
        parts: the folders, which stay as they are.
        path: the new folder; one that holds a part of the same store already is continued.

    Raises: StoreError for parts of different stores, or damage to a manifest.
    Example: ``merge(["machine0", "machine1"], "features") == []``
    """
    folders, target = [local_path(part) for part in parts], local_path(path)
    made = {folder: Manifest.read(folder) for folder in folders if (folder / MANIFEST).is_file()}
    if not made:
        raise StoreError(f"none of {', '.join(map(str, folders)) or 'no folder'} holds a manifest: give rank 0's too")
    (first, plan), *others = made.items()
    for folder, other in others:
        if other.identity != plan.identity:
            found = "; ".join(plan.differences(other)) or "the order of samples, or the shard size"
            found = found.replace("the store was", "the first was").replace("this run asks", "the other has")
            raise StoreError(f"{first} and {folder} are no parts of one store: {found}. Merge what ranks wrote of one")
    with one_store_writer(target, Share()):
        return _gathered(folders, replace(plan, shared=None, shards=None), target)


def _gathered(folders: Sequence[Path], plan: Manifest, target: Path) -> list[str]:
    """Shards of one store, copied from wherever one is whole."""
    writer = StoreWriter(target, plan)
    for name in ["shared", *plan.names]:
        found = next((folder for folder in folders if finished(folder, name, plan.identity)), None)
        if found is not None and name not in writer.entries:
            for ending in _ENDINGS:
                write_file(target / f"{name}.{ending}", (found / f"{name}.{ending}").read_bytes())
    writer.find(["shared", *plan.names])
    absent = [name for name in ["shared", *plan.names] if name not in writer.entries]
    if not absent:
        writer.finish()
    return absent
