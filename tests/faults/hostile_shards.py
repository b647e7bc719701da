"""Shards, sidecars, pools and selections that somebody made to harm, each opened as a user would."""

import io
import json
import os
import pickle
import shutil
import struct

import numpy as np
import torch
from safetensors.numpy import save

from graphkd.data.fingerprint import digest
from graphkd.data.selection import Selection
from graphkd.data.store.embed import EmbedJob, embed
from graphkd.data.store.format import write_json
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import merge, repair
from tests.data.store.fakes import TinyTeacher, ToTensor, squares
from tests.faults.hostile import forge, forge_shard, header, hostile, hostile_table, made, use


def another_shard(put, place, payload):
    """Something else where a shard was."""
    folder = made(place)
    (folder / "shard-00001.safetensors").unlink()
    put(folder / "shard-00001.safetensors", place)
    use(folder)


FILES = {
    "is_a_pipe": lambda path, place: os.mkfifo(path),
    "is_a_link_to_endless_zeros": lambda path, place: path.symlink_to("/dev/zero"),
    "is_a_link_to_a_file_outside": lambda path, place: path.symlink_to(place.parent / "outside" / "secret"),
}
hostile_table("shard_", another_shard, FILES)


def torch_file(payload):
    torch.save({"embedding": torch.zeros(4, 5), "x": payload}, file := io.BytesIO())
    return file.getvalue()


def other_bytes(name, data, place, payload):
    """Other bytes in a file that the manifest lists."""
    folder = made(place)
    forge_shard(folder, data(payload), name)
    use(folder)


BYTES = {
    "shard_is_a_pickle": ("shard-00001", lambda payload: pickle.dumps(payload) * 20),
    "shard_is_a_torch_file": ("shard-00001", torch_file),
    "shared_file_with_a_huge_header": ("shared", lambda payload: struct.pack("<Q", 2**62) + b"{}"),
    "shared_file_is_a_pickle": ("shared", pickle.dumps),
}
hostile_table("", other_bytes, BYTES)


def another_header(text, length, place, payload):
    """A shard whose header is not true."""
    folder = made(place)
    header(folder, text, length)
    use(folder)


def told(**changes):
    """A header that is right but for what is changed."""
    shape = {"dtype": "F32", "shape": [4, 5], "data_offsets": [0, 80]}
    logits = {"dtype": "F32", "shape": [4, 2], "data_offsets": [80, 112]}
    return json.dumps({"embedding": {**shape, **changes}, "logits": logits})


HEADERS = {
    "of_four_exabytes": ("{}", 2**62),
    "longer_than_the_file": ("{}", 10**6),
    "deep": ("[" * 100_000, None),
    "not_utf8": (b"\xff\xfe\x00{}", None),
    "outside_the_file": (told(data_offsets=[10**9, 10**9 + 80]), None),
    "before_the_file": (told(data_offsets=[-88, -8]), None),
    "turned_around": (told(data_offsets=[80, 0]), None),
    "huge_shape": (told(shape=[2**40, 2**40]), None),
    "object_type": (told(dtype="O"), None),
    "offsets_as_text": (told(data_offsets=["0", "80"]), None),
    "unaligned": (told(data_offsets=[1, 81]), None),
}
hostile_table("header_", another_header, HEADERS)


@hostile
def sidecar_with_another_path(place, payload):
    folder = made(place)
    body = json.loads((folder / "shard-00001.json").read_text())
    del body["digest_of_this"]
    write_json(folder / "shard-00001.json", {**body, "name": "../../outside/stolen"})
    verify_says_no(folder)


@hostile
def sidecar_of_other_length(place, payload):
    folder = made(place)
    body = json.loads((folder / "shard-00001.json").read_text())
    del body["digest_of_this"]
    sidecar = write_json(folder / "shard-00001.json", {**body, "ids": ["../../outside"] * 10**5})
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    shards[1]["sidecar"] = sidecar
    forge(folder, shards=shards)
    _ = EmbeddingStore(folder).ids


def verify_says_no(folder):
    repair(folder, EmbedJob(TinyTeacher(prompts="another"), squares(10), ToTensor(), progress=False))


@hostile
def writing_through_a_link(place, payload):
    """A link where a shard will be written: it is replaced, not followed."""
    folder = place / "store"
    folder.mkdir()
    secret = place.parent / "outside" / "secret"
    (folder / "shard-00000.safetensors").symlink_to(secret)
    embed(TinyTeacher(), squares(10), folder, transform=ToTensor(), progress=False)


@hostile
def merging_a_link(place, payload):
    folder = made(place)
    shutil.copytree(folder, place / "part")
    (place / "part" / "manifest.json").unlink()
    (place / "part" / "manifest.json").symlink_to("/dev/zero")
    merge([place / "part"], place / "all")


def another_selection(data, more, place, payload):
    """A selection that fits its digest and is none."""
    data = data or pickle.dumps(payload)
    (place / "selection.safetensors").write_bytes(data)
    write_json(place / "selection.json", {"bytes": len(data), "digest": digest(data), **more})
    Selection.load(place)


SELECTIONS = {
    "that_is_a_pickle": (b"", {}),
    "with_other_fields": (save({"indices": np.zeros(2)}), {"__class__": "os.system"}),
}
hostile_table("selection_", another_selection, SELECTIONS)
