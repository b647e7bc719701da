"""Scores of a pool, and what is selected by them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graphkd.data.pool import SCORES, score_pool
from graphkd.data.selection import Selection, select
from graphkd.data.sources import source_subset
from graphkd.data.store.embed import embed
from graphkd.errors import DataError, MissingFeatureError, OptionError, StoreError, UnknownNameError
from graphkd.features import Features
from graphkd.teachers.base import Teacher
from tests.data.store.fakes import TinyTeacher, ToTensor, squares

VIEW = ToTensor()


class ClassTeacher(Teacher):
    """Answers by a fixed table of logits, found by the image's mean colour, so that any answer can be staged."""

    def __init__(self, source, logits, embedding=None, proxies=None):
        self.table = {VIEW(source.image(i)).mean((1, 2)): i for i in range(len(source))}
        self.colours = torch.stack(list(self.table))
        self.logits, self.proxies = logits, proxies
        self.embedding = logits if embedding is None else embedding
        self.embedding_dim, self.num_classes, self.classes = self.embedding.shape[1], logits.shape[1], None

    def features(self, images):
        which = torch.cdist(images.mean((2, 3)), self.colours).argmin(1)
        return Features(self.embedding[which], self.logits[which], self.proxies)

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


def test_confidence_and_cross_entropy_choose_the_same_also_where_confidence_is_1():
    source, logits, _ = staged()
    teacher = ClassTeacher(source, 30 * logits)  # max p rounds to 1 for many
    one, other = (score_pool(teacher, source, transform=VIEW, score=name) for name in ("confidence", "ce"))
    assert (one.confidence == 1).sum() > 5
    for n in (7, 20, 40):
        assert chosen(one, n) == chosen(other, n)


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


def test_entropy_margin_and_band_by_hand():
    p = torch.tensor([[0.6, 0.4, 1e-9], [0.58, 0.21, 0.21], [0.5, 0.49, 0.01]], dtype=torch.float64).log().float()
    source = squares(3)

    def best(score, **options):
        return chosen(
            score_pool(ClassTeacher(source, p), source, transform=VIEW, score=score), 1, balance="global", **options
        )

    assert best("confidence") == [0]
    assert best("entropy") == [0]
    assert best("margin") == [1]
    assert best("confidence", band=(0.0, 0.59)) == [1]
    assert best("confidence", band=(0.4, 0.55)) == [2]
    with pytest.raises(OptionError, match=r"1 samples were asked for and 0 of 3 have a confidence in \(0.7, 1.0\)"):
        best("confidence", band=(0.7, 1.0))


def test_a_penalty_moves_away_from_prototypes():
    source = squares(3)
    logits = torch.tensor([[2.0, 0], [1.9, 0], [1.8, 0]])
    embedding, proxies = torch.tensor([[1.0, 0], [0, -1], [1, 1]]), torch.tensor([[1.0, 0], [0, 1]])
    scores = score_pool(ClassTeacher(source, logits, embedding, proxies), source, transform=VIEW)
    np.testing.assert_allclose(scores.typical, [1, 0, 2**-0.5], atol=1e-7)
    assert chosen(scores, 1, balance="global") == [0]
    assert chosen(scores, 1, balance="global", penalty=1.0) == [1]
    assert chosen(scores, 2, balance="global", penalty=1.0) == [1, 2]
    with pytest.raises(MissingFeatureError, match="has none: use spread=4"):
        select(score_pool(ClassTeacher(source, logits), source, transform=VIEW), 1, penalty=1.0)


def test_spread_prefers_what_is_far_from_the_chosen():
    source = squares(4)
    logits = torch.tensor([[4.0, 0], [3.9, 0], [3.8, 0], [3.7, 0]])
    embedding = torch.tensor([[1.0, 0], [0.99, 0.01], [0, 1], [0.7, 0.7]])
    scores = score_pool(ClassTeacher(source, logits, embedding), source, transform=VIEW)
    assert chosen(scores, 2, balance="global") == [0, 1]
    assert chosen(scores, 2, balance="global", spread=2) == [0, 2]
    assert chosen(scores, 3, balance="global", spread=2) == [0, 2, 3]
    assert len(chosen(scores, 3, spread=2)) == 3


@pytest.mark.parametrize("options", [{}, {"balance": "global"}, {"spread": 3}, {"penalty": 0.5}])
def test_teacher_or_store_in_any_batches_and_shards_choose_the_same(tmp_path, options):
    source, teacher = squares(40), TinyTeacher()
    store = embed(teacher, source, tmp_path, transform=VIEW, shard_size=16, progress=False)
    expected = chosen(score_pool(teacher, source, transform=VIEW), 11, **options)
    for batch, shard in ((1, 40), (7, 9), (40, 100)):
        sizes = {"batch_size": batch, "shard_size": shard}
        assert chosen(score_pool(teacher, source, transform=VIEW, **sizes), 11, **options) == expected
        assert chosen(score_pool(store, source, **sizes), 11, **options) == expected


def test_the_teacher_sees_one_batch_at_a_time_and_no_label():
    source, _, teacher = staged(30)
    seen = []
    features = teacher.features
    teacher.features = lambda images: (seen.append(len(images)), features(images))[1]
    source.target = None  # calling it would raise
    score_pool(teacher, source, transform=VIEW, batch_size=8, shard_size=16)
    assert seen == [8, 8, 8, 6]


def test_trusted_classes_are_many_and_certain_enough():
    p = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 0.5, 0], [0, 0.5, 0]])
    source = squares(4)
    selection = select(score_pool(ClassTeacher(source, p), source, transform=VIEW), 4)
    assert selection.trusted_classes(min_samples=2).tolist() == [True, True, False]
    assert selection.trusted_classes(min_samples=2, min_confidence=0.9).tolist() == [True, False, False]


BAD = {
    "too many": (lambda scores, score: select(scores, 7), OptionError, "7 samples were asked for and 6 of 6"),
    "none": (lambda scores, score: select(scores, 0), OptionError, "expected n >= 1"),
    "balance": (lambda scores, score: select(scores, 2, balance="clas"), UnknownNameError, "did you mean 'class'"),
    "score": (lambda scores, score: score(score="margins"), UnknownNameError, "did you mean 'margin'"),
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
    assert set(SCORES) == {"ce", "confidence", "entropy", "margin"}


def test_finished_shards_are_not_computed_again_and_damaged_ones_are(tmp_path):
    source, teacher = squares(20), TinyTeacher()
    options = {"transform": VIEW, "batch_size": 4, "shard_size": 8}
    first = score_pool(teacher, source, tmp_path, **options)
    assert teacher.forwards == 5
    again = score_pool(teacher, source, tmp_path, **options)
    assert teacher.forwards == 5
    (tmp_path / "scores-00001.safetensors").write_bytes(b"x")
    (tmp_path / "scores-00002.json").write_text("{}")
    repaired = score_pool(teacher, source, tmp_path, **options)
    assert teacher.forwards == 8
    for other in (again, repaired):
        np.testing.assert_array_equal(first.key, other.key)
        np.testing.assert_array_equal(first.label, other.label)


def test_a_killed_run_goes_on(tmp_path):
    code = (
        "import sys; from tests.data.store.fakes import *; from graphkd.data.pool import score_pool\n"
        f"score_pool(TinyTeacher(kill_at=5), squares(20), {str(tmp_path)!r}, transform=ToTensor(), batch_size=4, shard_size=8)"
    )
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "kernels")])
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert killed.returncode == -signal.SIGKILL
    teacher = TinyTeacher()
    resumed = score_pool(teacher, squares(20), tmp_path, transform=VIEW, batch_size=4, shard_size=8)
    assert teacher.forwards == 1  # two shards of eight were kept
    np.testing.assert_array_equal(resumed.key, score_pool(TinyTeacher(), squares(20), transform=VIEW, batch_size=4).key)


def test_a_folder_of_other_scores_is_refused_and_the_difference_named(tmp_path):
    score_pool(TinyTeacher(), squares(9), tmp_path, transform=VIEW)
    for change, message in (
        ({"teacher": TinyTeacher(prompts="a {}")}, "made with prompts 'a photo of a {}.', this run asks 'a {}'"),
        ({"source": squares(8)}, "made with data .9 samples"),
        ({"transform": ToTensor(8)}, "made with transform"),
        ({"score": "margin"}, "made with score 'confidence', this run asks 'margin'"),
        ({"shard_size": 3}, "made with shard size '8192', this run asks '3'"),
    ):
        run = {"teacher": TinyTeacher(), "source": squares(9), "transform": VIEW, **change}
        teacher, source = run.pop("teacher"), run.pop("source")
        with pytest.raises(StoreError, match=message.replace("{", r"\{")):
            score_pool(teacher, source, tmp_path, **run)


def test_a_saved_selection_comes_back_and_refuses_what_it_was_not_made_with(tmp_path):
    source, teacher = squares(30), TinyTeacher()
    selection = select(score_pool(teacher, source, transform=VIEW), 10)
    selection.save(tmp_path)
    loaded = Selection.load(tmp_path)
    for name in ("indices", "scores", "labels", "confidences"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(selection, name))
    assert loaded.ids == [source.ids[i] for i in selection.indices] == source_subset(source, loaded.indices).ids
    assert (loaded.histogram, loaded.options, loaded.made) == (selection.histogram, selection.options, selection.made)
    assert loaded.report() == selection.report()
    assert loaded.made["dtype"] == "float32"
    assert "ToTensor" in loaded.made["transform"]
    loaded.check(teacher=teacher, source=source, transform=VIEW)
    loaded.check()
    for asked, message in (
        ({"teacher": TinyTeacher(prompts="{}")}, "prompts"),
        ({"source": squares(29)}, "data .30 samples.*asks .29 samples"),
        ({"transform": ToTensor(5)}, "transform"),
        ({"source": source_subset(source, list(range(29, -1, -1)))}, "order of samples"),
    ):
        with pytest.raises(StoreError, match=f"this selection belongs to something else: it was made with .*{message}"):
            loaded.check(**asked)
    half = embed(teacher, source, tmp_path / "half", transform=VIEW, dtype="float16", progress=False)
    with pytest.raises(StoreError, match="made with dtype 'float32', this run asks 'float16'"):
        loaded.check(teacher=half)
    (tmp_path / "selection.safetensors").write_bytes(b"short")
    with pytest.raises(StoreError, match="does not fit its digest"):
        Selection.load(tmp_path)
