"""Batches of two views: reproducible, resumable, and without labels unless they are asked for."""

import numpy as np
import pytest
import torch
from torch import tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

from graphkd.data.seeds import EpochBatches
from graphkd.data.sources import ArraySource, source_subset
from graphkd.data.transforms import CenterView, RandomCropView, RandomResizedCropView
from graphkd.data.views import Batch, Views
from graphkd.errors import DataError, OptionError


def pair(shared=False, target=None):
    student = torch.rand(2, 3, 4, 4)
    return Batch(student, student if shared else torch.rand(2, 3, 8, 8), tensor([5, 7]), target)


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_moves_but_for_its_index_and_a_shared_view_stays_shared(shared):
    moved = pair(shared, target=tensor([0, 1])).to("meta")
    assert (moved.teacher is moved.student) == shared
    assert moved.student.device.type == moved.teacher.device.type == moved.target.device.type == "meta"
    assert moved.index.tolist() == [5, 7]  # where the store reads it
    assert pair().to("meta").target is None


@pytest.mark.gpu
@pytest.mark.parametrize("shared", [True, False])
def test_pinned_memory(shared):
    batch = pair(shared, tensor([0, 1]))
    pinned = batch.pin_memory()
    assert all(each.is_pinned() for each in (pinned.student, pinned.teacher, pinned.index, pinned.target))
    assert (pinned.teacher is pinned.student) == shared
    assert_close(pinned.student, batch.student)


@pytest.mark.parametrize("shared", [True, False])
def test_rows_of_all_parts(shared):
    batch = pair(shared, target=tensor([0, 1]))
    part = batch.rows(slice(1, 2))
    assert (part.index.tolist(), part.target.tolist()) == ([7], [1])
    assert torch.equal(part.student, batch.student[1:])
    assert torch.equal(part.teacher, batch.teacher[1:])
    assert (part.teacher is part.student) == shared
    assert pair().rows(slice(0, 1)).target is None


class Blind(ArraySource):
    """A source whose labels must never be looked at."""

    def target(self, index):
        raise AssertionError("a label was looked at")


def images(n=22):
    return np.random.default_rng(0).integers(0, 256, (n, 10, 10, 3), dtype=np.uint8)


def make(source=None, **options):
    options = {"student": RandomCropView(8), "teacher": RandomResizedCropView(6), "seed": 3, **options}
    return Views(source or Blind(images(), [0] * 22, ["a"]), **options)


def epoch(loader, number, start=0):
    loader.batch_sampler.set_epoch(number, start)
    return list(loader)


def same(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.student, b.student)
        assert torch.equal(a.teacher, b.teacher)


def test_workers_do_not_change_a_bit_and_epochs_differ():
    alone, shared_work = make().loader(4), make().loader(4, workers=2)
    first = epoch(alone, 0)
    same(first, epoch(shared_work, 0))
    second = epoch(alone, 1)
    same(second, epoch(shared_work, 1))  # the workers live on and still see the epoch
    assert not torch.equal(first[0].index, second[0].index)
    by_sample = [{int(i): s for b in e for i, s in zip(b.index, b.student, strict=True)} for e in (first, second)]
    both = by_sample[0].keys() & by_sample[1].keys()
    assert sum(not torch.equal(by_sample[0][i], by_sample[1][i]) for i in both) > len(both) // 2


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_in_the_middle_of_an_epoch_gives_the_rest_of_it(workers):
    whole = epoch(make().loader(4), 5)
    same(whole[2:], epoch(make().loader(4, workers=workers), 5, start=2))
    same(epoch(make().loader(4), 0)[3:], list(make().loader(4, workers=workers, start_batch=3)))


def test_a_view_depends_on_the_sample_not_on_its_place():
    source = Blind(images())
    whole, part = make(source), make(source_subset(source, [9, 4]))
    assert torch.equal(whole[2, 9].student, part[2, 0].student)
    assert torch.equal(whole[2, 4].teacher, part[2, 1].teacher)
    assert not torch.equal(make(source, seed=4)[2, 9].student, whole[2, 9].student)


def test_the_two_sides_draw_independently():
    views = make(teacher=RandomCropView(8))
    assert any(not torch.equal(pair.student, pair.teacher) for pair in (views[i] for i in range(8)))


@pytest.mark.parametrize("workers", [0, 2])
def test_shared_view_is_one_tensor(workers):
    for batch in make(teacher="shared").loader(4, workers=workers):
        assert batch.teacher is batch.student


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_the_global_generator_alone(workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make().loader(4, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failing_transform_leaves_the_global_generator_alone():
    def fails(image):
        raise ValueError("no view")

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="no view"):
        make(student=fails)[0]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_without_labels_no_target_is_ever_looked_at(workers):
    assert [batch.target for batch in make(labels=False).loader(4, workers=workers)] == [None] * 5
    with pytest.raises(AssertionError, match="a label was looked at"):  # the guard bites
        make(labels=True)[0]


def test_labels_when_asked_for():
    source = ArraySource(images(), list(range(22)), [str(i) for i in range(22)])
    for batch in make(source, labels=True).loader(4):
        assert torch.equal(batch.target, batch.index)
        assert batch.index.dtype == batch.target.dtype == torch.int64
    with pytest.raises(DataError, match="5 has no label: pass labels=False"):
        make(ArraySource(images()), labels=True)[5]


def test_plain_index_is_epoch_zero_and_batches_have_the_shapes():
    views = make()
    assert torch.equal(views[7].student, views[0, 7].student)
    batch = next(iter(views.loader(4)))
    assert batch.student.shape == (4, 3, 8, 8)
    assert batch.teacher.shape == (4, 3, 6, 6)
    assert len(views) == 22


def test_unshuffled_order_and_last_batch():
    loader = make(student=CenterView(8)).loader(5, shuffle=False, drop_last=False)
    assert [batch.index.tolist() for batch in loader] == [*np.arange(20).reshape(4, 5).tolist(), [20, 21]]
    assert len(loader) == 5


def test_unreadable_image_is_named_through_a_worker():
    class Broken(ArraySource):
        def image(self, index):
            raise DataError("cannot read image broken.png")

    with pytest.raises(DataError, match=r"broken\.png"):
        list(make(Broken(images())).loader(4, workers=1))


def test_ranks_share_each_global_batch():
    whole = [list(EpochBatches(22, 6, seed=1, drop_last=False))]
    ranks = [list(EpochBatches(22, 6, seed=1, drop_last=False, rank=rank, world=2)) for rank in range(2)]
    for batch, even, odd in zip(whole[0], *ranks, strict=True):
        assert even == batch[::2]
        assert odd == batch[1::2]
    assert sorted(index for batch in whole[0] for _, index in batch) == list(range(22))


def test_order_is_a_pure_function_of_seed_and_epoch():
    batches = EpochBatches(50, 8, seed=1)
    first = list(batches)
    batches.set_epoch(7)
    later = list(batches)
    assert {epoch for batch in later for epoch, _ in batch} == {7}
    assert [i for b in later for _, i in b] != [i for b in first for _, i in b]
    batches.set_epoch(0)
    assert list(batches) == first
    assert list(EpochBatches(50, 8, seed=2)) != first
    assert len(first) == len(batches) == 6


def test_an_epoch_set_while_iterating_belongs_to_the_next_pass():
    batches = EpochBatches(12, 4)
    running = iter(batches)
    head = next(running)
    batches.set_epoch(1)
    assert {epoch for batch in [head, *running] for epoch, _ in batch} == {0}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"length": 5, "batch_size": 8}, DataError, "5 samples make no batch of 8: .* or pass drop_last=False"),
        ({"length": 0, "batch_size": 8, "drop_last": False}, DataError, "0 samples make no batch of 8"),
        ({"length": 5, "batch_size": 0}, OptionError, "batch_size 0"),
        ({"length": 5, "batch_size": 4, "rank": 2, "world": 2}, OptionError, "rank 2, world 2"),
        ({"length": 9, "batch_size": 4, "world": 2, "drop_last": False}, OptionError, "has 1 samples for 2 ranks"),
    ],
)
def test_impossible_batches_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        EpochBatches(**options)


def test_start_batch_outside_the_epoch():
    with pytest.raises(OptionError, match=r"a batch in 0\.\.5, found epoch 0, batch 6"):
        EpochBatches(22, 4).set_epoch(0, 6)


def test_accelerate_passes_its_own_count_of_epochs_on():
    accelerate = pytest.importorskip("accelerate")
    views = make()
    batches = EpochBatches(len(views), 4, views.seed)
    plain = DataLoader(views, batch_sampler=batches, collate_fn=views.collate)
    prepared = accelerate.Accelerator(cpu=True).prepare(plain)
    for number in (0, 1):
        same(epoch(make().loader(4), number), list(prepared))  # it counts its passes itself
    prepared.set_epoch(5)
    same(epoch(make().loader(4), 5), list(prepared))
