"""Reading a store: any order, any part, from any process; nothing wrong is ever returned."""

import json
import pickle

import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset

from graphkd.data import files, store_format
from graphkd.data.embed import embed
from graphkd.data.files import write_json
from graphkd.data.store import EmbeddingStore
from graphkd.errors import StoreError
from tests.data.store_fakes import Squares, TinyTeacher, ToTensor, direct, squares


@pytest.fixture
def made(tmp_path):
    """A store of ten samples in shards of 4, 4 and 2, and what its teacher says of them."""
    teacher, source = TinyTeacher(), squares(10)
    embed(teacher, source, tmp_path, transform=ToTensor(), batch_size=3, shard_size=4, progress=False)
    return EmbeddingStore(tmp_path), direct(teacher, source)


def test_rows_come_in_any_order_and_more_than_once(made):
    store, expected = made
    index = torch.tensor([9, 0, 4, 3, 4, 8, 0])
    assert_close(store[index].embedding, expected.embedding[index])
    assert_close(store[index.tolist()].logits, expected.logits[index])
    assert_close(store[index.to(torch.int32)].logits, expected.logits[index])


def test_random_orders_equal_the_teacher(made):
    store, expected = made
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        index = torch.randperm(10, generator=draw)[: int(torch.randint(1, 11, (), generator=draw))]
        assert_close(store[index].embedding, expected.embedding[index])


def test_one_integer_is_a_batch_of_one_and_none_is_an_empty_batch(made):
    store, expected = made
    assert_close(store[7].embedding, expected.embedding[7:8])
    assert store[[]].embedding.shape == (0, 5)
    assert store[torch.empty(0, dtype=torch.long)].logits.shape == (0, 2)


def test_a_store_stands_in_for_its_teacher(made):
    store, _ = made
    assert (len(store), store.embedding_dim, store.num_classes, store.classes) == (10, 5, 2, ["cat", "dog"])
    assert store.ids == squares(10).ids
    assert store[[1, 2]].to("cpu").embedding.dtype == torch.float32
    assert "10 samples, embedding 5, logits 2, float32" in repr(store)


def test_what_a_reader_does_to_a_row_stays_with_the_reader(made):
    store, expected = made
    store[[0]].embedding.zero_()
    assert_close(store[[0]].embedding, expected.embedding[:1])
    store.verify()


@pytest.mark.parametrize("index", [[10], [-1], torch.tensor([3, 99])])
def test_a_position_outside_is_refused(made, index):
    with pytest.raises(StoreError, match=r"position (10|-1|99) is not in .*holds 10 samples \(0 to 9\)"):
        made[0][index]


@pytest.mark.parametrize("index", [[0.5], [True, False], [[1, 2]]])
def test_an_index_that_is_no_list_of_integers_is_refused(made, index):
    with pytest.raises(StoreError, match="expected positions as integers"):
        made[0][index]


class Rows(Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return len(self.store)

    def __getitem__(self, index):
        return self.store[index].embedding[0]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_loader_workers_read_the_store(made, start):
    store, expected = made
    store[[0]]  # mapped here already
    loader = DataLoader(Rows(store), batch_size=5, num_workers=2, multiprocessing_context=start)
    assert_close(torch.cat(list(loader)), expected.embedding)


def test_a_pickled_store_carries_no_features(made):
    store, expected = made
    store[range(10)]
    text = pickle.dumps(store)
    assert len(text) < 5000
    assert_close(pickle.loads(text)[[5]].logits, expected.logits[5:6])


# part of the samples, other orders ----------------------------------------------------------------------------------


def test_a_part_in_another_order_is_found_by_id(made):
    store, expected = made
    ids = squares(10).ids
    part = store.for_source(Squares([ids[8], ids[1], ids[5]]))
    assert (len(part), part.ids) == (3, [ids[8], ids[1], ids[5]])
    assert_close(part[[0, 1, 2]].embedding, expected.embedding[[8, 1, 5]])
    nested = part.for_source(Squares([ids[5], ids[8]]))
    assert_close(pickle.loads(pickle.dumps(nested))[[0, 1]].embedding, expected.embedding[[5, 8]])
    with pytest.raises(StoreError, match="position 3 is not in"):
        part[3]
    part.check(source=Squares([ids[8], ids[1], ids[5]]), teacher=TinyTeacher(), transform=ToTensor())
    part.verify(Squares([ids[8], ids[1], ids[5]]))


def test_the_same_order_needs_no_view(made):
    assert made[0].for_source(squares(10)) is made[0]


def test_embedding_again_in_another_order_reads_that_order(made):
    store, expected = made
    teacher, turned = TinyTeacher(), Squares(squares(10).ids[::-1])
    found = embed(teacher, turned, store.path, transform=ToTensor(), progress=False)
    assert teacher.forwards == 0
    assert_close(found[range(10)].embedding, expected.embedding.flip(0))


def test_samples_that_are_not_stored_are_counted_and_named(made):
    with pytest.raises(StoreError, match=r"lacks 4 \(new0, new1, new2, ...\) of the 5 asked for"):
        made[0].for_source(Squares([squares(10).ids[0], "new0", "new1", "new2", "new3"]))


def test_a_sample_of_another_size_is_not_the_one_embedded(made):
    part = Squares(squares(10).ids[:3])
    part.sizes[1] += 1
    with pytest.raises(StoreError, match=r"the size of 1 \(folder/image001.png\) changed"):
        made[0].for_source(part)


# check --------------------------------------------------------------------------------------------------------------


def test_check_accepts_what_the_store_was_made_of(made):
    made[0].check(source=squares(10), teacher=TinyTeacher(), transform=ToTensor())


def test_check_names_every_difference(made):
    other = Squares([*squares(9).ids, "new"])
    other.sizes[3] += 5
    with pytest.raises(StoreError) as caught:
        made[0].check(source=other, teacher=TinyTeacher(prompts="art of {}", head=False), transform=ToTensor(9))
    for text in (
        "prompts 'a photo of a {}.', this run asks 'art of {}'",
        'class names \'["cat","dog"]\', this run asks (none)',
        '"size":4',
        "lacks 1 (new)",
        "this run lacks 1 (folder/image009.png)",
        "size of 1 (folder/image003.png) changed",
        "choose another --store folder",
    ):
        assert text in str(caught.value)


def test_check_sees_another_order(made):
    with pytest.raises(StoreError, match=r"another order \(use store.for_source"):
        made[0].check(source=Squares(squares(10).ids[::-1]))


# damage -------------------------------------------------------------------------------------------------------------


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


def test_verify_names_every_damaged_shard_and_embedding_repairs_only_these(made):
    store, expected = made
    for number in (0, 2):
        flip(store.path / f"shard-0000{number}.safetensors", -1)
    with pytest.raises(StoreError, match=r"shard-00000.*shard-00002"):
        store.verify()
    for number in (0, 2):
        (store.path / f"shard-0000{number}.safetensors").unlink()
    teacher = TinyTeacher()
    again = embed(teacher, squares(10), store.path, transform=ToTensor(), batch_size=4, progress=False)
    assert teacher.forwards == 2
    assert_close(again[range(10)].embedding, expected.embedding)


def test_swapped_shards_are_found(made):
    store, _ = made
    first, second = (store.path / f"shard-0000{number}.safetensors" for number in (0, 1))
    swapped = second.read_bytes(), first.read_bytes()
    first.write_bytes(swapped[0])
    second.write_bytes(swapped[1])
    with pytest.raises(StoreError, match="shard-00000"):
        EmbeddingStore(store.path)[[0]]


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


def test_a_json_file_of_absurd_size_is_not_read(made, monkeypatch):
    monkeypatch.setattr(files, "JSON_LIMIT", 100)
    with pytest.raises(StoreError, match=r"manifest.json is damaged \(larger than 100 bytes\)"):
        EmbeddingStore(made[0].path)


def test_damaged_proxies_are_found(made):
    flip(made[0].path / "shared.safetensors", -1)
    with pytest.raises(StoreError, match=r"shared\.safetensors does not fit its digest"):
        EmbeddingStore(made[0].path)[[0]]


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


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"a"', "[" * 100_000, '{"digest_of_this": 3}', "\xff\x00"])
def test_a_manifest_that_is_no_manifest_is_refused(made, text):
    (made[0].path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match=r"manifest.json is damaged"):
        EmbeddingStore(made[0].path)


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


def test_a_header_larger_than_its_file_is_refused(made, tmp_path):
    store, _ = made
    raw = torch.frombuffer(bytearray((2**62).to_bytes(8, "little") + b"{}"), dtype=torch.uint8).numpy()
    with pytest.raises(StoreError, match=f"a header of {2**62} bytes in a file of 10"):
        store_format.rows_of(raw, store.manifest, 0, tmp_path)


def test_no_store_at_all(tmp_path):
    with pytest.raises(StoreError, match=r"manifest.json is missing: expected a store that embed"):
        EmbeddingStore(tmp_path)


def test_verify_compares_the_content_of_the_samples(made):
    source = squares(10)
    made[0].verify(source)
    source.edited = "by hand, and of the same size"
    with pytest.raises(StoreError, match=r"the content of 10 \(folder/image000.png, .*\) changed since embedding"):
        made[0].verify(source)
