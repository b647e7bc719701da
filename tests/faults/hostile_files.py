"""Checkpoints of a run, caches, folders and names that somebody made to harm."""

import hashlib
import json
import pickle
import struct

import torch

from graphkd.data.class_names import read_class_names
from graphkd.data.folders import open_folder
from graphkd.errors import StoreError
from graphkd.files import write_file
from graphkd.teachers.texts import TextCache
from graphkd.training.checkpoint import Checkpoints
from tests.faults.hostile import hostile, hostile_table


def run_checkpoint(place):
    checkpoints = Checkpoints(place / "checkpoints")
    checkpoints.save(1, {"step": {"w": torch.ones(2)}, "epoch": 3})
    return checkpoints, checkpoints.path(1)


def redigest(path):
    """A manifest that fits whatever lies there: the attacker computes it, too."""
    names = ("tensors.safetensors", "state.json")
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}
    (path / "manifest.json").write_text(json.dumps(digests))


def another_state(text, place, payload):
    """A checkpoint whose state is not one."""
    checkpoints, path = run_checkpoint(place)
    (path / "state.json").write_text(text)
    redigest(path)
    checkpoints.newest()


STATES = {
    "deep": "[" * 100_000,
    "points_outside": '{"step": {"tensor": "../../../outside/secret"}}',
    "is_python": "__import__('os').getpid()",
}
hostile_table("checkpoint_state_", another_state, STATES)


def other_tensors(data, place, payload):
    """A checkpoint whose tensors are something else."""
    checkpoints, path = run_checkpoint(place)
    (path / "tensors.safetensors").write_bytes(data or pickle.dumps(payload))
    redigest(path)
    checkpoints.newest()


hostile_table(
    "checkpoint_tensors_", other_tensors, {"are_a_pickle": b"", "with_a_huge_header": struct.pack("<Q", 2**62) + b"{}"}
)


@hostile
def checkpoint_manifest_is_a_list(place, payload):
    checkpoints, path = run_checkpoint(place)
    (path / "manifest.json").write_text('["../../outside/secret"]')
    checkpoints.newest()


@hostile
def checkpoint_folder_with_a_strange_name(place, payload):
    """It is passed over; the only true one is damaged."""
    checkpoints, path = run_checkpoint(place)
    (place / "checkpoints" / "update-$(touch ran)").mkdir()
    (path / "state.json").write_text("{}")
    checkpoints.newest()


# caches, folders, names -----------------------------------------------------------------------------------------------


@hostile
def text_cache_of_pickles(place, payload):
    """A cache has nothing to lose: it says that the file is damaged and computes again."""
    cache = TextCache(place, {"w": "1"}, ["cat", "dog"])
    for template, data in (("{}", pickle.dumps(payload)), ("a {}", struct.pack("<Q", 2**62) + b"{}")):
        write_file(cache.path(template), data)
        assert cache.read(template) is None
    raise StoreError("as every case does: nothing was taken from the cache")


@hostile
def folder_that_links_above_itself(place, payload):
    (place / "photos" / "cat").mkdir(parents=True)
    (place / "photos" / "cat" / "up").symlink_to(place / "photos")
    open_folder(place / "photos", layout="classes")


@hostile
def class_names_of_bytes(place, payload):
    (place / "names.txt").write_bytes(pickle.dumps(payload))
    read_class_names(place / "names.txt")


@hostile
def class_names_with_controls(place, payload):
    (place / "names.txt").write_text("cat\tdog\t../../outside\n")
    read_class_names(place / "names.txt")
