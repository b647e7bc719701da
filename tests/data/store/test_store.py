"""Reading a store: any order, any part, from any process; nothing wrong is ever returned."""

import pickle

import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset

from graphkd.data.store.embed import embed
from graphkd.data.store.tools import verify
from graphkd.errors import StoreError
from tests.data.store.fakes import Squares, TinyTeacher, ToTensor, fill, squares


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
    assert not verify(store.path)


@pytest.mark.parametrize("index", [[10], [-1], torch.tensor([3, 99])])
def test_a_position_outside_is_refused(made, index):
    with pytest.raises(StoreError, match=r"position (10|-1|99) is not in .*holds 10 samples \(0 to 9\)"):
        made[0][index]


@pytest.mark.parametrize("index", [[0.5], [True, False], [[1, 2]], [[0], [1, 2]], None, [None], [2**70], "1"])
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


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
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
    assert not verify(part.path, Squares([ids[8], ids[1], ids[5]]))


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


def test_an_id_that_looks_like_a_stored_one_is_told_apart(tmp_path):
    store = fill(tmp_path, source=Squares(["cafe\u0301.png"]))
    with pytest.raises(StoreError, match=r"\('caf\\xe9.png' looks like 'cafe\\u0301.png' and is another name\)"):
        store.for_source(Squares(["caf\xe9.png"]))


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


def test_verify_compares_the_content_of_the_samples(made):
    source = squares(10)
    assert not verify(made[0].path, source)
    source.edited = "by hand, and of the same size"
    assert list(verify(made[0].path, source)) == source.ids
