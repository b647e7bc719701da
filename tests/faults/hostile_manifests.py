"""Manifests of stores that somebody made to harm, each opened as a user would."""

import json
import os
import pickle

from graphkd.data.fingerprint import digest
from graphkd.data.store.format import write_json
from graphkd.data.store.tools import info, verify
from tests.faults.hostile import forge, hostile, made, use


def manifest_text(name, data):
    """A case whose manifest is not one."""

    def case(place, payload):
        folder = made(place)
        (folder / "manifest.json").write_bytes(data() if callable(data) else data)
        use(folder)

    case.__name__ = f"manifest_{name}"
    hostile(case)


def digested(text):
    """Text with a digest that fits, as the last entry of an object or after whatever it is."""
    return f'{text},\n "digest_of_this": "{digest(text)}"\n}}'.encode()


manifest_text("empty", b"")
manifest_text("of_zeros", bytes(4096))
manifest_text("pickle", lambda: pickle.dumps({"version": 2}))
manifest_text("list", b"[" * 10 + b"]" * 10)
manifest_text("deep", lambda: digested('{"a": ' + "[" * 200_000 + "]" * 200_000))
manifest_text("deep_unclosed", lambda: digested('{"a": ' + "[" * 5_000_000))
manifest_text("utf16", '{"version": 2}'.encode("utf-16"))
manifest_text("nan", lambda: digested('{"version": NaN'))
manifest_text("huge_number", lambda: digested('{"version": 1' + "0" * 100_000))
manifest_text("no_object", lambda: digested('["version"'))
manifest_text("python", lambda: digested('{"version": __import__("os").getpid()'))
manifest_text("yaml_object", lambda: digested('!!python/object/apply:os.system ["true"]'))


def values(name, **changes):
    """A case whose manifest says something else, under a digest that fits."""

    def case(place, payload):
        folder = made(place)
        forge(folder, **changes)
        use(folder)

    case.__name__ = f"manifest_says_{name}"
    hostile(case)


entry = {"bytes": 10**15, "digest": "0" * 64, "sidecar": "0" * 64}
values("many_samples", samples=10**18)
values("no_samples_a_shard", shard_size=0)
values("wide_rows", embedding_dim=10**15)
values("many_views", views=10**12)
values("many_classes", num_classes=10**12)
values("negative_classes", num_classes=-3)
values("float_counts", samples=10.0)
values("float_version", version=2.0)
values("no_json_as_transform", transform="[" * 10_000)
values("a_list_as_transform", transform="[]")
values("true_for_one", views=True)
values("object_dtype", dtype="object")
values("pickled_dtype", dtype={"py/object": "os.system"})
values("another_version", version="__import__('os').system('true')")
values("where_shards_are", root="../../outside")
values("paths_as_shards", shards=["../../outside", "/etc/passwd", "shard-00000"])
values("path_in_shared", shared={**entry, "path": "../outside"})
values("huge_file", shards=[entry] * 3)
values("negative_bytes", shards=[{**entry, "bytes": -1}] * 3)
values("texts_as_bytes", shards=[{**entry, "bytes": "10"}] * 3)
values("teacher_list", teacher=["weights"])
values("teacher_deep", teacher={"weights": {"a": {"b": []}}})
values("classes_text", classes="catdog")
values("classes_numbers", classes=[1, 2])
values("draws_of_nothing", drawn=["top"] * 10**4)


@hostile
def manifest_unfinished_of_many_shards(place, payload):
    folder = made(place)
    forge(folder, samples=10**15, shard_size=1, shards=None, shared=None)
    info(folder)


@hostile
def manifest_copy_of_many_shards(place, payload):
    folder = made(place)
    (folder / "manifest.json").unlink()
    body = json.loads((folder / "shared.json").read_text())
    del body["digest_of_this"]
    write_json(folder / "shared.json", {**body, "plan": {**body["plan"], "samples": 10**15, "shard_size": 1}})
    verify(folder)


@hostile
def manifest_of_70_megabytes(place, payload):
    folder = made(place)
    with open(folder / "manifest.json", "wb") as file:
        file.truncate(70 << 20)
    use(folder)


@hostile
def manifest_is_a_pipe(place, payload):
    folder = made(place)
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    use(folder)


@hostile
def manifest_is_a_folder(place, payload):
    folder = made(place)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    use(folder)
