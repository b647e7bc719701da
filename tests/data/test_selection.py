"""Scores of a pool, and what is selected by them."""

import numpy as np
import pytest
import torch

from graphkd.data.decoding import decoded
from graphkd.data.selection import Selection, count_of, score_pool, select
from graphkd.data.sources import source_subset
from graphkd.data.store.embed import embed
from graphkd.errors import DataError, FileError, MissingFeatureError, OptionError, StoreError, UnknownNameError
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


def table(logits):
    source = squares(len(logits))
    return score_pool(ClassTeacher(source, logits), source, transform=VIEW)


def test_confidence_margin_and_entropy_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.48, 0.48, 0.04], [0.6, 0.2, 0.2]], dtype=torch.float64)
    scores = table(p.log())
    assert scores.label.tolist() == [0, 0, 0]
    np.testing.assert_allclose(scores.confidence, [0.5, 0.48, 0.6])
    np.testing.assert_allclose(scores.margin, [0.25, 0, 0.4], atol=1e-12)
    np.testing.assert_allclose(scores.entropy[0], 1.5 * np.log(2))
    for score, best in (("confidence", [0, 2]), ("margin", [0, 2]), ("entropy", [1, 2])):
        assert chosen(scores, 2, score=score) == best


def test_a_share_of_the_pool_is_a_whole_number():
    assert [count_of(share, 100) for share in (0.29, 0.57, 0.299, 1, 100)] == [29, 57, 29, 1, 100]


def test_a_share_of_the_pool_and_a_band_of_confidence():
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.45, 0.55], [0.7, 0.3]])
    scores = table(p.log())
    assert chosen(scores, 0.5) == chosen(scores, 2) == [0, 2]  # one of each class
    assert chosen(scores, 0.5, band=(0.7, 1)) == [0, 1]  # the second class has nobody so sure
    assert chosen(scores, 1, band=(0.5, 0.75)) == [4]


def test_a_class_that_attracts_strangers_is_left_out():
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.49, 0.51], [0.48, 0.52]])
    scores = table(p.log())  # mean confidence: 0.85 and 0.58
    kept = select(scores, 2, class_confidence=0.6)
    assert (kept.indices.tolist(), kept.attractors, kept.histogram) == ([0, 1], [1], [2, 0])
    assert select(scores, 2, class_confidence=0.57).attractors == []


class Interrupted(KeyboardInterrupt):
    pass


def test_a_pool_is_gone_on_with_after_a_kill(tmp_path):
    source, _, teacher = staged(30)
    answer, asked = teacher.features, []

    def dying(images):
        asked.append(len(images))
        if len(asked) == 3:
            raise Interrupted
        return answer(images)

    options = {"transform": VIEW, "batch_size": 8, "part": tmp_path / "list.part"}
    teacher.features = dying
    with pytest.raises(Interrupted):
        score_pool(teacher, source, **options)
    with options["part"].open("ab") as file:
        file.write(b"half of a row")
    found = score_pool(teacher, source, **options)
    assert asked == [8, 8, 8, 8, 6]
    whole = score_pool(teacher, source, transform=VIEW, batch_size=8)
    for name in ("label", "log_confidence", "margin", "entropy"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    del asked[:]
    assert len(score_pool(teacher, source, **options)) == 30
    assert asked == []  # a file that is whole is read alone
    with pytest.raises(FileError, match="was begun with other images: remove it to begin anew"):
        score_pool(teacher, source_subset(source, range(20)), **options)
    options["part"].write_text("notes\n")
    with pytest.raises(FileError, match="holds no scores of a pool: remove it"):
        score_pool(teacher, source, **options)


def test_an_image_that_cannot_be_read_is_never_chosen(tmp_path):
    source, _, teacher = staged(6)
    image = source.image
    source.image = lambda index: image(index) if index != 4 else decoded(tmp_path / "gone.png", "gone.png")
    with pytest.raises(DataError, match="gone.png"):
        score_pool(teacher, source, transform=VIEW)
    for size in (2, 5, 1):
        scores = score_pool(teacher, source, transform=VIEW, on_error="skip", batch_size=size)
        assert scores.unread == [source.ids[4]]
        assert chosen(scores, 5) == [0, 1, 2, 3, 5]


def test_a_store_is_a_pool_without_its_images(tmp_path):
    source, teacher = squares(20), TinyTeacher()
    store = embed(teacher, source, tmp_path, transform=VIEW, progress=False)
    assert chosen(score_pool(store), 7) == chosen(score_pool(store, source), 7)
    assert select(score_pool(store), 7).ids == select(score_pool(store, source), 7).ids


BAD = {
    "too many": (
        lambda scores, score: select(scores, 7),
        OptionError,
        "expected a whole number of 1 to 6, the samples of the pool, or a share of them below 1, found 7",
    ),
    "none": (lambda scores, score: select(scores, 0), OptionError, "found 0: choose another"),
    "endless": (lambda scores, score: select(scores, float("inf")), OptionError, "found inf: choose another"),
    "half a sample": (lambda scores, score: select(scores, 1.5), OptionError, "found 1.5: choose another"),
    "band": (
        lambda scores, score: select(scores, 2, band=(0.7, 1.2)),
        OptionError,
        "expected band .* in .0, 1., found",
    ),
    "narrow band": (
        lambda scores, score: select(scores, 6, band=(0.999, 1)),
        OptionError,
        "expected at most [0-5] samples, those of the pool that may be chosen, found 6: choose fewer",
    ),
    "score": (lambda scores, score: select(scores, 2, score="entropie"), UnknownNameError, "did you mean 'entropy'"),
    "on error": (lambda scores, score: score(on_error="go"), OptionError, "on_error 'stop' or 'skip', found"),
    "balance": (lambda scores, score: select(scores, 2, balance="clas"), UnknownNameError, "did you mean 'class'"),
    "batch size": (lambda scores, score: score(batch_size=0), OptionError, "expected batch_size >= 1, .* found 0"),
    "transform": (lambda scores, score: score(transform=None), OptionError, "give source and transform="),
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
        {"n": 10, "score": "confidence", "balance": "class", "band": [0.0, 1.0], "class_confidence": 0.0},
        selection.report(),
    )
    for other in (squares(int(selection.indices[-1])), source_subset(source, list(range(29, -1, -1)))):
        with pytest.raises(StoreError, match="made of other images, or in another order: select again"):
            loaded.images(other)
    (tmp_path / "selection.safetensors").write_bytes(b"short")
    with pytest.raises(StoreError, match="does not fit its digest"):
        Selection.load(tmp_path)
