"""Manifests of stores that somebody made to harm, each opened as a user would."""

import json
import os
import pickle

from graphkd.data.fingerprint import digest
from graphkd.data.store.format import write_json
from graphkd.data.store.tools import info, verify
from tests.faults.hostile import forge, hostile, hostile_table, made, use


def another_text(data, place, payload):
    """A manifest that is not one."""
    folder = made(place)
    (folder / "manifest.json").write_bytes(data() if callable(data) else data)
    use(folder)


def digested(text):
    """Text with a digest that fits, as the last entry of an object or after whatever it is."""
    return f'{text},\n "digest_of_this": "{digest(text)}"\n}}'.encode()


TEXTS = {
    "empty": b"",
    "of_zeros": bytes(4096),
    "pickle": lambda: pickle.dumps({"version": 2}),
    "list": b"[" * 10 + b"]" * 10,
    "deep": lambda: digested('{"a": ' + "[" * 200_000 + "]" * 200_000),
    "deep_unclosed": lambda: digested('{"a": ' + "[" * 5_000_000),
    "utf16": '{"version": 2}'.encode("utf-16"),
    "nan": lambda: digested('{"version": NaN'),
    "huge_number": lambda: digested('{"version": 1' + "0" * 100_000),
    "no_object": lambda: digested('["version"'),
    "python": lambda: digested('{"version": __import__("os").getpid()'),
    "yaml_object": lambda: digested('!!python/object/apply:os.system ["true"]'),
}
hostile_table("manifest_", another_text, TEXTS)


def other_values(changes, place, payload):
    """A manifest that says something else, under a digest that fits."""
    folder = made(place)
    forge(folder, **changes)
    use(folder)


entry = {"bytes": 10**15, "digest": "0" * 64, "sidecar": "0" * 64}
VALUES = {
    "many_samples": {"samples": 10**18},
    "no_samples_a_shard": {"shard_size": 0},
    "wide_rows": {"embedding_dim": 10**15},
    "many_views": {"views": 10**12},
    "many_classes": {"num_classes": 10**12},
    "negative_classes": {"num_classes": -3},
    "float_counts": {"samples": 10.0},
    "float_version": {"version": 2.0},
    "no_json_as_transform": {"transform": "[" * 10_000},
    "a_list_as_transform": {"transform": "[]"},
    "true_for_one": {"views": True},
    "object_dtype": {"dtype": "object"},
    "pickled_dtype": {"dtype": {"py/object": "os.system"}},
    "another_version": {"version": "__import__('os').system('true')"},
    "where_shards_are": {"root": "../../outside"},
    "paths_as_shards": {"shards": ["../../outside", "/etc/passwd", "shard-00000"]},
    "path_in_shared": {"shared": {**entry, "path": "../outside"}},
    "huge_file": {"shards": [entry] * 3},
    "negative_bytes": {"shards": [{**entry, "bytes": -1}] * 3},
    "texts_as_bytes": {"shards": [{**entry, "bytes": "10"}] * 3},
    "teacher_list": {"teacher": ["weights"]},
    "teacher_deep": {"teacher": {"weights": {"a": {"b": []}}}},
    "classes_text": {"classes": "catdog"},
    "classes_numbers": {"classes": [1, 2]},
    "draws_of_nothing": {"drawn": ["top"] * 10**4},
}
hostile_table("manifest_says_", other_values, VALUES)


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


def another_file(put, place, payload):
    """Something else where the manifest was."""
    folder = made(place)
    (folder / "manifest.json").unlink()
    put(folder / "manifest.json")
    use(folder)


FILES = {
    "of_70_megabytes": lambda path: (path.touch(), os.truncate(path, 70 << 20)),
    "is_a_pipe": os.mkfifo,
    "is_a_folder": os.mkdir,
}
hostile_table("manifest_", another_file, FILES)
