"""Shards, sidecars, pools and selections that somebody made to harm, each opened as a user would."""

import json
import os
import pickle
import shutil
import struct

import numpy as np
import torch
from safetensors.numpy import save

from graphkd.data.fingerprint import digest
from graphkd.data.pool import score_pool
from graphkd.data.selection import Selection
from graphkd.data.store.embed import EmbedJob, embed
from graphkd.data.store.format import write_json
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import merge, repair
from tests.data.store.fakes import TinyTeacher, ToTensor, squares
from tests.faults.hostile import forge, forge_shard, header, hostile, made, use


@hostile
def shard_is_a_pipe(place, payload):
    folder = made(place)
    (folder / "shard-00001.safetensors").unlink()
    os.mkfifo(folder / "shard-00001.safetensors")
    use(folder)


@hostile
def shard_is_a_link_to_endless_zeros(place, payload):
    folder = made(place)
    (folder / "shard-00001.safetensors").unlink()
    (folder / "shard-00001.safetensors").symlink_to("/dev/zero")
    use(folder)


@hostile
def shard_is_a_link_to_a_file_outside(place, payload):
    folder = made(place)
    secret = place.parent / "outside" / "secret"
    (folder / "shard-00001.safetensors").unlink()
    (folder / "shard-00001.safetensors").symlink_to(secret)
    use(folder)


@hostile
def shard_is_a_pickle(place, payload):
    folder = made(place)
    forge_shard(folder, pickle.dumps(payload) * 20)
    use(folder)


@hostile
def shard_is_a_torch_file(place, payload):
    folder = made(place)
    torch.save({"embedding": torch.zeros(4, 5), "x": payload}, place / "file.pt")
    forge_shard(folder, (place / "file.pt").read_bytes())
    use(folder)


def headers(name, text, length=None):
    """A case whose shard's header is not true."""

    def case(place, payload):
        folder = made(place)
        header(folder, text, length)
        use(folder)

    case.__name__ = f"header_{name}"
    hostile(case)


def told(**changes):
    """A header that is right but for what is changed."""
    shape = {"dtype": "F32", "shape": [4, 5], "data_offsets": [0, 80]}
    logits = {"dtype": "F32", "shape": [4, 2], "data_offsets": [80, 112]}
    return json.dumps({"embedding": {**shape, **changes}, "logits": logits})


headers("of_four_exabytes", "{}", 2**62)
headers("longer_than_the_file", "{}", 10**6)
headers("deep", "[" * 100_000)
headers("not_utf8", b"\xff\xfe\x00{}")
headers("outside_the_file", told(data_offsets=[10**9, 10**9 + 80]))
headers("before_the_file", told(data_offsets=[-88, -8]))
headers("turned_around", told(data_offsets=[80, 0]))
headers("huge_shape", told(shape=[2**40, 2**40]))
headers("object_type", told(dtype="O"))
headers("offsets_as_text", told(data_offsets=["0", "80"]))
headers("unaligned", told(data_offsets=[1, 81]))


@hostile
def shared_file_with_a_huge_header(place, payload):
    folder = made(place)
    forge_shard(folder, struct.pack("<Q", 2**62) + b"{}", "shared")
    use(folder)


@hostile
def shared_file_is_a_pickle(place, payload):
    folder = made(place)
    forge_shard(folder, pickle.dumps(payload), "shared")
    use(folder)


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


@hostile
def pool_with_a_forged_manifest(place, payload):
    write_json(place / "scores" / "scores.json", {"made": ["../../outside"]})
    score_pool(TinyTeacher(), squares(10), place / "scores", transform=ToTensor())


@hostile
def selection_that_is_a_pickle(place, payload):
    data = pickle.dumps(payload)
    (place / "selection.safetensors").write_bytes(data)
    write_json(place / "selection.json", {"bytes": len(data), "digest": digest(data)})
    Selection.load(place)


@hostile
def selection_with_other_fields(place, payload):
    data = save({"indices": np.zeros(2)})
    (place / "selection.safetensors").write_bytes(data)
    write_json(place / "selection.json", {"bytes": len(data), "digest": digest(data), "__class__": "os.system"})
    Selection.load(place)
