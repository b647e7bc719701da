from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.data.views import Batch


def make(shared=False, target=None):
    student = torch.rand(2, 3, 4, 4)
    return Batch(student, student if shared else torch.rand(2, 3, 8, 8), tensor([5, 7]), target)


def test_length_is_that_of_the_samples():
    assert len(make()) == 2


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_view_stays_shared(shared):
    moved = make(shared).to("meta")
    assert (moved.teacher is moved.student) == shared
    assert moved.student.device.type == moved.teacher.device.type == "meta"


def test_the_index_stays_where_the_store_reads_it():
    assert make().to("meta").index.tolist() == [5, 7]


def test_labels_move_too_and_may_be_absent():
    assert make(target=tensor([0, 1])).to("meta").target.device.type == "meta"
    assert make().to("meta").target is None


def test_the_default_has_no_label():
    assert make().target is None


def test_a_batch_is_frozen():
    with pytest.raises(FrozenInstanceError):
        make().student = None


@pytest.mark.gpu
@pytest.mark.parametrize("shared", [True, False])
def test_pinned_memory(shared):
    batch = make(shared, tensor([0, 1]))
    pinned = batch.pin_memory()
    assert all(each.is_pinned() for each in (pinned.student, pinned.teacher, pinned.index, pinned.target))
    assert (pinned.teacher is pinned.student) == shared
    assert_close(pinned.student, batch.student)


@pytest.mark.parametrize("shared", [True, False])
def test_rows_of_all_parts(shared):
    batch = make(shared, target=tensor([0, 1]))
    part = batch.rows(slice(1, 2))
    assert (part.index.tolist(), part.target.tolist()) == ([7], [1])
    assert torch.equal(part.student, batch.student[1:])
    assert torch.equal(part.teacher, batch.teacher[1:])
    assert (part.teacher is part.student) == shared
    assert make().rows(slice(0, 1)).target is None
