"""Reading a damaged store: nothing wrong is ever returned."""

import json

import pytest

from graphkd.data.store.format import write_json
from graphkd.data.store.read import EmbeddingStore
from graphkd.errors import StoreError
from tests.data.store.fakes import squares


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_every_flipped_bit_of_a_shard_is_found_before_a_row_is_returned(made):
    store, _ = made
    path = store.path / "shard-00001.safetensors"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        flip(path, position)
        damaged = EmbeddingStore(store.path)
        damaged[[0, 3, 9]]  # other shards
        with pytest.raises(StoreError, match=r"shard-00001.safetensors does not fit its digest: repair the store"):
            damaged[[0, 5]]
        path.write_bytes(whole)


def test_a_truncated_shard_is_found_on_opening_and_on_reading(made):
    store, _ = made
    path = store.path / "shard-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"lacks 1 \(shard-00002.safetensors\), absent or not of the size written"):
        EmbeddingStore(store.path)
    with pytest.raises(StoreError, match=r"shard-00002.safetensors does not fit"):
        store[[9]]  # opened before


def test_a_shard_deleted_under_a_reader_is_named(made):
    store, _ = made
    (store.path / "shard-00001.safetensors").unlink()
    store[[0, 9]]
    with pytest.raises(StoreError, match=r"shard-00001.safetensors cannot be read"):
        store[[4]]


@pytest.mark.parametrize("name", ["manifest.json", "shard-00001.json"])
def test_an_edited_json_file_is_found(made, name):
    path = made[0].path / name
    path.write_text(path.read_text().replace("image00", "image01").replace('"dtype": "float32"', '"dtype": "float16"'))
    with pytest.raises(StoreError, match=rf"{name} is damaged \(it does not fit its own digest\)"):
        EmbeddingStore(made[0].path).for_source(squares(3))


def test_a_sidecar_of_another_shard_is_found(made):
    folder = made[0].path
    (folder / "shard-00001.json").write_bytes((folder / "shard-00000.json").read_bytes())
    with pytest.raises(StoreError, match=r"shard-00001.json is not the one written"):
        _ = made[0].ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "expected version 2, found 1"),
        ({"extra": 1}, "has the keys"),
        ({"samples": -1}, r"counts \[-1, 4, 5, 1, 2\]"),
        ({"samples": 10**12}, "lists 3 of 250000000000 shards"),
        ({"dtype": "int4"}, "dtype 'int4'"),
        ({"shards": [{"bytes": 1}]}, "is no manifest"),
        ({"embedding_dim": 6}, "is no shard of this store: embedding is"),
    ],
)
def test_a_manifest_with_a_fresh_digest_but_other_values_is_refused(made, change, message):
    path = made[0].path / "manifest.json"
    body = json.loads(path.read_text())
    del body["digest_of_this"]
    write_json(path, {**body, **change})
    with pytest.raises(StoreError, match=message):
        EmbeddingStore(made[0].path)[[0]]


def test_no_store_at_all(tmp_path):
    with pytest.raises(StoreError, match=r"manifest.json is missing: expected a store that embed"):
        EmbeddingStore(tmp_path)
