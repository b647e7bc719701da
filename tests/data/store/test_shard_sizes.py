"""Shards of any number of images and ids of any length keep within what is read of their sidecars and manifest."""

import json
from dataclasses import replace

import pytest

from graphkd.data.store import format as store_format
from graphkd.data.store.embed import EmbedJob, plan_store, usual_shard
from graphkd.data.store.format import JSON_LIMIT, Manifest, check_shards, largest_shard, row_bytes, write_json
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import merge
from graphkd.errors import OptionError
from tests.data.store.fakes import Squares, TinyTeacher, ToTensor, fill

LONG = "a-folder-with-a-long-name/" * 8


@pytest.fixture
def narrow(monkeypatch):
    """16 KiB in place of 64 MiB, so that a few images pass the limit."""
    monkeypatch.setattr(store_format, "JSON_LIMIT", 1 << 14)


def long_squares(n, start=0):
    return Squares([f"{LONG}{i:04d}.png" for i in range(start, start + n)])


def plan(**options):
    look = EmbedJob(TinyTeacher(), Squares(["a"]), ToTensor())
    return replace(plan_store(look, "float16"), **options)


@pytest.mark.parametrize("name", ["cat/1.png", "caf\xe9 \U0001f408.png", 'a "b" \\ c', "\udcff.png"])
def test_a_row_takes_as_many_bytes_as_it_says(tmp_path, name):
    def length(count):
        about = {"ids": [name] * count, "sizes": [12345] * count, "content": ["0" * 64] * count}
        write_json(tmp_path / "sidecar.json", about)
        return (tmp_path / "sidecar.json").stat().st_size

    assert length(8) - length(7) == row_bytes(name, 12345)


@pytest.mark.parametrize(
    ("samples", "shards"), [(100, 1), (5_000, 2), (1_281_167, 32), (18_000_000, 40), (10**9, 2176)]
)
def test_the_usual_size_of_a_shard_fits_any_number_of_images(samples, shards):
    longest = row_bytes("n01440764/" + "x" * 50, 10**6 - 1)  # 60 characters
    asked = plan(samples=samples, shard_size=usual_shard(samples, longest))
    check_shards(asked, longest)
    assert asked.count == shards
    assert asked.shard_size * longest < JSON_LIMIT


@pytest.mark.parametrize("length", [1, 100, 2048])  # the last: the longest path that Linux opens
def test_a_billion_images_with_ids_of_any_length_fit(length):
    longest = row_bytes("\xe9" * length, 10**12)  # six bytes a character
    check_shards(plan(samples=10**9, shard_size=usual_shard(10**9, longest)), longest)


def test_a_store_of_long_ids_is_written_and_read(tmp_path, narrow):
    store = fill(tmp_path, TinyTeacher(), long_squares(150), shard_size=None)
    assert store.manifest.shard_size == largest_shard(row_bytes(f"{LONG}0000.png", 300)) == 51
    assert max(file.stat().st_size for file in tmp_path.glob("*.json")) <= 1 << 14
    assert EmbeddingStore(tmp_path)[range(150)].embedding.shape == (150, 5)


@pytest.mark.parametrize(("size", "problem"), [
    (100, r"shard_size = 100 is too large: .* may take 16384 bytes, .* takes up to \d+: give at most 51, in a new folder"),
    (2, r"shard_size = 2 is too small: it makes 75 shards, and a manifest lists at most 58: give at least 3"),
])  # fmt: skip
def test_a_size_that_does_not_fit_is_refused_before_the_teacher_is_asked(tmp_path, narrow, size, problem):
    teacher = TinyTeacher()
    with pytest.raises(OptionError, match=problem):
        fill(tmp_path / "store", teacher, long_squares(150), shard_size=size)
    assert teacher.forwards == 0
    assert not (tmp_path / "store").exists()


def test_a_store_begun_with_shards_too_large_is_refused_before_the_teacher_is_asked(tmp_path, narrow):
    fill(tmp_path, TinyTeacher(), Squares(["a", "b"]), shard_size=None)
    begun = Manifest.read(tmp_path)
    assert begun.shard_size == 182
    replace(begun, shard_size=4096, shards=None, shared=None).write(tmp_path)
    teacher = TinyTeacher()
    with pytest.raises(OptionError, match="shard_size = 4096 is too large"):
        fill(tmp_path, teacher, Squares(["a", "b"]))
    assert teacher.forwards == 0


def test_joined_stores_get_shards_that_the_longest_ids_fit(tmp_path, narrow):
    fill(tmp_path / "short", TinyTeacher(), Squares([f"{i}" for i in range(120)]), shard_size=120)
    fill(tmp_path / "long", TinyTeacher(), long_squares(100), shard_size=40)
    merge([tmp_path / "short", tmp_path / "long"], tmp_path / "all")
    store = EmbeddingStore(tmp_path / "all")
    assert len(store) == 220
    assert store.manifest.shard_size == 51
    assert json.loads((tmp_path / "all" / "shard-00000.json").read_text())["ids"][0] == "0"
