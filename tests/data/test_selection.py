"""Scores of a pool, and what is selected by them."""

import numpy as np
import pytest
import torch

from graphkd.data.selection import Selection, score_pool, select
from graphkd.data.sources import source_subset
from graphkd.data.store.embed import embed
from graphkd.errors import DataError, MissingFeatureError, OptionError, StoreError, UnknownNameError
from graphkd.features import Features
from graphkd.teachers.base import Teacher
from tests.data.store.fakes import TinyTeacher, ToTensor, squares

VIEW = ToTensor()


class ClassTeacher(Teacher):
    """Answers by a fixed table of logits, found by the image's mean colour, so that any answer can be staged."""

    def __init__(self, source, logits):
        self.table = {VIEW(source.image(i)).mean((1, 2)): i for i in range(len(source))}
        self.colours = torch.stack(list(self.table))
        self.logits, self.classes = logits, None
        self.embedding_dim = self.num_classes = logits.shape[1]

    def features(self, images):
        which = torch.cdist(images.mean((2, 3)), self.colours).argmin(1)
        return Features(self.logits[which], self.logits[which])

    def fingerprint(self):
        return {"weights": "staged"}

    def to(self, device):
        return self


def staged(n=60, c=4, seed=0):
    source = squares(n)
    logits = 3 * torch.randn(n, c, generator=torch.Generator().manual_seed(seed))
    return source, logits, ClassTeacher(source, logits)


def chosen(scores, n, **options):
    return select(scores, n, **options).indices.tolist()


def test_global_balance_is_a_plain_sort_with_ties_by_position():
    source, logits, _ = staged()
    logits[10:20] = logits[10]
    scores = score_pool(ClassTeacher(source, logits), source, transform=VIEW)
    confidence = logits.double().softmax(-1).amax(-1).numpy()
    for n in (1, 5, 23):
        expected = sorted(np.argsort(-confidence, kind="stable")[:n].tolist())
        assert chosen(scores, n, balance="global") == expected


def test_quota_of_each_class_and_backfill_by_hand():
    p = torch.tensor([[9.0, 0, 0], [8, 0, 0], [7, 0, 0], [6, 0, 0], [0, 5, 0], [0, 4, 0], [0, 0, 1]])
    source = squares(7)
    scores = score_pool(ClassTeacher(source, p), source, transform=VIEW)
    selection = select(scores, 6)  # 2 of each class; the third has 1, filled up with the best left: sample 2
    assert selection.indices.tolist() == [0, 1, 2, 4, 5, 6]
    assert selection.histogram == [3, 2, 1]
    assert "2 1, 1 2, 0 3" in selection.report()
    assert select(scores, 5).histogram == [3, 1, 1]
    for n in range(1, 8):
        assert len(select(scores, n)) == n


@pytest.mark.parametrize("options", [{}, {"balance": "global"}])
def test_teacher_or_store_in_any_batches_choose_the_same(tmp_path, options):
    source, teacher = squares(40), TinyTeacher()
    store = embed(teacher, source, tmp_path, transform=VIEW, shard_size=16, progress=False)
    expected = chosen(score_pool(teacher, source, transform=VIEW), 11, **options)
    for batch in (1, 7, 40):
        assert chosen(score_pool(teacher, source, transform=VIEW, batch_size=batch), 11, **options) == expected
        assert chosen(score_pool(store, source, batch_size=batch), 11, **options) == expected


def test_the_teacher_sees_one_batch_at_a_time_and_no_label():
    source, _, teacher = staged(30)
    seen = []
    features = teacher.features
    teacher.features = lambda images: (seen.append(len(images)), features(images))[1]
    source.target = None  # calling it would raise
    score_pool(teacher, source, transform=VIEW, batch_size=8)
    assert seen == [8, 8, 8, 6]


def test_trusted_classes_are_many_and_certain_enough():
    p = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 0.5, 0], [0, 0.5, 0]])
    source = squares(4)
    selection = select(score_pool(ClassTeacher(source, p), source, transform=VIEW), 4)
    assert selection.trusted_classes(min_samples=2).tolist() == [True, True, False]
    assert selection.trusted_classes(min_samples=2, min_confidence=0.9).tolist() == [True, False, False]


BAD = {
    "too many": (
        lambda scores, score: select(scores, 7),
        OptionError,
        "expected 1 <= n <= 6, the samples of the pool, found 7",
    ),
    "none": (lambda scores, score: select(scores, 0), OptionError, "found 0: choose another n"),
    "balance": (lambda scores, score: select(scores, 2, balance="clas"), UnknownNameError, "did you mean 'class'"),
    "batch size": (lambda scores, score: score(batch_size=0), OptionError, "batch_size >= 1, found 0"),
    "transform": (lambda scores, score: score(transform=None), OptionError, "give transform="),
    "head": (lambda scores, score: score(TinyTeacher(head=False)), MissingFeatureError, "has no classes"),
}


@pytest.mark.parametrize(("act", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(act, error, message):
    source, _, teacher = staged(6)
    score = lambda asked=teacher, **options: score_pool(asked, source, **{"transform": VIEW, **options})  # noqa: E731
    with pytest.raises(error, match=message):
        act(score(), score)


def test_samples_without_finite_logits_are_named():
    source, logits, _ = staged(6)
    logits[3, 0] = float("nan")
    with pytest.raises(DataError, match="not finite for 1 samples: folder/image003.png"):
        score_pool(ClassTeacher(source, logits), source, transform=VIEW)


def test_a_saved_selection_comes_back_and_is_for_its_own_pool(tmp_path):
    source = squares(30)
    selection = select(score_pool(TinyTeacher(), source, transform=VIEW), 10)
    selection.save(tmp_path)
    loaded = Selection.load(tmp_path)
    for name in ("indices", "scores", "labels", "confidences"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(selection, name))
    assert loaded.images(source).ids == loaded.ids == [source.ids[i] for i in selection.indices]
    assert (loaded.histogram, loaded.options, loaded.report()) == (
        selection.histogram,
        {"n": 10, "balance": "class"},
        selection.report(),
    )
    for other in (squares(int(selection.indices[-1])), source_subset(source, list(range(29, -1, -1)))):
        with pytest.raises(StoreError, match="made of other images, or in another order: select again"):
            loaded.images(other)
    (tmp_path / "selection.safetensors").write_bytes(b"short")
    with pytest.raises(StoreError, match="does not fit its digest"):
        Selection.load(tmp_path)
