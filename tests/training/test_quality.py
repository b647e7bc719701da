"""Quality without labels: the figures by hand, what a run keeps of them, and what cannot be compared."""

import json
import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import MissingFeatureError, NonFiniteError, OptionError, ShapeError
from graphkd.features import Features
from graphkd.training.checkpoint import student_weights
from graphkd.training.quality import Answering, Answers, Quality, ask, assess, unsure_warning
from graphkd.training.run_folder import RunFolder
from tests.training.tiny import HARD, at_batch, end_of, interrupt, lines, same, teacher, trainer, views


def said(*guesses, confidence=1.0, classes=4):
    """A network that guesses these classes."""
    count = len(guesses)
    return Answers(tensor(guesses), torch.full((count,), confidence), torch.zeros(count), classes)


def test_answers_by_hand():
    found = Answers.of(tensor([[0.0, math.log(3.0)], [0.0, 0.0]]))
    assert found.guess[0] == 1
    assert_close(found.confidence, tensor([0.75, 0.5]))
    assert_close(found.entropy, tensor([0.75 * math.log(4 / 3) + 0.25 * math.log(4), math.log(2)]))
    assert (len(found), found.classes) == (2, 2)


def test_classes_in_effect_are_all_of_equal_ones_and_one_of_one():
    assert said(0, 1, 2, 3).effective_classes == pytest.approx(4)
    assert said(2, 2, 2).effective_classes == 1
    # shares 1/2, 1/4, 1/4: H = 1.5 ln 2
    assert said(0, 0, 1, 3).effective_classes == pytest.approx(2**1.5)
    assert said(0, 0, 1, 3).histogram.tolist() == [2, 1, 0, 1]


@pytest.mark.parametrize(("confidence", "classes", "told"), [
    (0.134, 10, True), (0.144, 10, True), (0.146, 10, False), (0.52, 2, True), (0.53, 2, False), (0.06, 1000, False),
    (1.0, 1, False),
])  # fmt: skip
def test_a_teacher_that_is_hardly_surer_than_chance_is_told(confidence, classes, told):
    found = unsure_warning(confidence, classes)
    assert (found is not None) is told
    assert not told or f"{100 * confidence:.1f} %, and chance of {classes} classes {100 / classes:.1f} %" in found


def test_agreement_and_calibration_by_hand():
    student = replace(said(0, 1, 1, 3), confidence=tensor([0.99, 0.99, 0.65, 0.61]))
    quality = Quality(student, said(0, 1, 2, 2))
    assert (quality.images, quality.agreement) == (4, 0.5)
    # two bins: 0.99 and right twice, (0.65 + 0.61) / 2 and never right
    assert quality.calibration_error == pytest.approx((abs(2 * 0.99 - 2) + 0.65 + 0.61) / 4)
    assert quality.reliability[:, 14].tolist() == pytest.approx([2, 1.98, 2])
    assert quality.pairs == [(0, 0, 1), (1, 1, 1), (2, 1, 1), (2, 3, 1)]
    assert quality.numbers() == pytest.approx(
        {
            "agreement": 0.5,
            "calibration_to_teacher": 0.32,
            "student_confidence": 0.81,
            "teacher_confidence": 1.0,
            "student_entropy": 0.0,
            "teacher_entropy": 0.0,
            "student_classes": 2**1.5,
            "teacher_classes": 2**1.5,
        }
    )


def test_images_of_two_guesses_come_first_where_both_are_sure():
    student = replace(said(0, 1, 1, 1), confidence=tensor([0.9, 0.5, 0.8, 0.9]))
    told = replace(said(0, 0, 0, 0), confidence=tensor([0.9, 0.9, 0.9, 0.3]))
    quality = Quality(student, told)
    assert quality.disagreed(5) == [2, 1, 3]
    assert quality.disagreed(1) == [2]
    assert quality.least_certain(2) == [1, 2]


@pytest.mark.parametrize(("guesses", "collapsed"), [((0, 0, 0, 0), True), ((0, 0, 1, 1), False), ((0, 1, 2, 3), False)])
def test_a_collapse_is_less_than_half_of_the_teachers_classes(guesses, collapsed):
    quality = Quality(said(*guesses), said(0, 1, 2, 3))
    assert quality.collapsed == collapsed
    assert (
        "uses 1.0 classes in effect and its teacher 4.0 on 4 images"
        in Quality(said(0, 0, 0, 0), said(0, 1, 2, 3)).warning
    )


def test_a_collapsed_teacher_makes_no_collapse():
    assert not Quality(said(0, 0), said(1, 1)).collapsed


def test_one_pass_scores_by_labels_and_by_the_teacher():
    shown = views(11, labels=True)
    told = ask(teacher, shown, batch_size=4)
    loader = shown.loader(4, shuffle=False, drop_last=False)
    scores, quality = assess(lambda images: 20 * images.mean((2, 3)), loader, told)
    assert (scores.images, quality.images) == (11, 11)
    assert (quality.agreement, quality.calibration_error) == (
        1.0,
        pytest.approx(1 - told.confidence.mean().item(), abs=1e-6),
    )
    labelled = Quality(Answers.of(torch.eye(3)[torch.arange(11) % 3] * 50), told)
    assert labelled.agreement == pytest.approx(scores.top1)


BAD = {
    "images": (lambda: Quality(said(0), said(0, 1)), ShapeError, "of 1 images and 4 classes, the teacher of 2 images"),
    "classes": (lambda: Quality(said(0), said(0, classes=5)), ShapeError, "of 1 images and 5 classes"),
    "shape": (lambda: Answers.of(torch.ones(3)), ShapeError, r"expected logits \(3, 3\), found \(3,\)"),
    "finite": (lambda: Answers.of(tensor([[0.0, math.nan], [1.0, 2.0]])), NonFiniteError, "1 of 2 rows of logits"),
    "unasked": (lambda: Answering(3).read(), MissingFeatureError, "0 of 3 images were asked about"),
    "no scores": (
        lambda: ask(lambda batch: Features(embedding=batch.student.mean((2, 3))), views(4)),
        MissingFeatureError,
        r"a comparison needs features\.logits",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("act", "error", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_compared(act, error, message):
    with pytest.raises(error, match=message):
        act()


def test_a_trainer_refuses_images_that_it_cannot_score(tmp_path):
    made = trainer(tmp_path, compared=True)
    parts = made.step, views(), teacher, made.config, tmp_path
    with pytest.raises(OptionError, match="the scored images hand out no labels"):
        type(made)(*parts, scored=views(12))
    for shown in (None, views(8)):
        with pytest.raises(OptionError, match="12 answers do not fit"):
            type(made)(*parts, scored=shown, answers=made.answers)


def test_a_run_without_labels_ends_with_its_quality(tmp_path):
    result = trainer(tmp_path, compared=True, epochs=12, lr=0.03).fit()
    assert result.scores is None
    assert result.quality.agreement > 0.9
    kept = json.loads((tmp_path / "quality.json").read_text())
    assert kept["agreement"] == result.quality.agreement
    assert sum(count for *_, count in kept["confusion"]) == kept["images"] == 12
    assert [line["epoch"] for line in lines(tmp_path) if "agreement" in line] == list(range(1, 13))
    assert not (tmp_path / "scores.json").exists()


def test_the_best_student_by_agreement_is_kept_and_is_a_run_folder(tmp_path):
    made = trainer(tmp_path, compared=True, epochs=6, lr=0.03)
    made.fit()
    scored = [line for line in lines(tmp_path) if "agreement" in line]
    best = max(scored, key=lambda line: line["agreement"])  # the first of equals
    update, state = RunFolder(tmp_path).best.newest()
    assert (update, state["epoch"], state["agreement"]) == (best["update"], best["epoch"], best["agreement"])
    assert student_weights(tmp_path / "best").keys() == made.step.student.state_dict().keys()
    assert (tmp_path / "best" / "student.json").read_text() == (tmp_path / "student.json").read_text()


def test_labels_add_accuracy_and_leave_the_last_student_the_only_one(tmp_path):
    result = trainer(tmp_path, compared=True, scored=True).fit()
    assert {"top1", "agreement"} <= lines(tmp_path)[-1].keys()
    assert result.scores.images == result.quality.images == 12
    assert not (tmp_path / "best").exists()


def test_being_compared_changes_no_bit_of_a_run(tmp_path):
    trainer(tmp_path / "plain").fit()
    trainer(tmp_path / "compared", compared=True).fit()
    same(end_of(tmp_path / "plain"), end_of(tmp_path / "compared"))


@pytest.mark.parametrize("batch", [3, 7, 12])
def test_a_resumed_run_is_compared_as_an_unbroken_one(tmp_path, batch):
    options = HARD | {"workers": 0, "scored": False, "compared": True}
    trainer(tmp_path / "whole", **options).fit()
    with pytest.raises(KeyboardInterrupt):
        at_batch(trainer(tmp_path / "broken", **options), batch, interrupt).fit()
    trainer(tmp_path / "broken", **options).fit(resume=True)
    same(end_of(tmp_path / "whole"), end_of(tmp_path / "broken"))
    assert lines(tmp_path / "whole") == lines(tmp_path / "broken")
    same(*(RunFolder(tmp_path / name).best.newest()[1] for name in ("whole", "broken")))


def test_a_best_student_of_a_future_that_was_undone_is_forgotten(tmp_path, caplog):
    folder = RunFolder(tmp_path)
    folder.path.joinpath("student.json").write_text("{}")
    folder.keep_best(20, 4, 0.75, {"w": torch.ones(2)})
    assert folder.best_agreement(20) == 0.75
    assert folder.best_agreement(15) == -1
    assert not (tmp_path / "best").exists()
    folder.keep_best(20, 4, 0.75, {"w": torch.ones(2)})
    (folder.best.path(20) / "tensors.safetensors").write_text("damaged")
    with caplog.at_level(logging.WARNING):
        assert folder.best_agreement(20) == -1
    assert "the best student so far is lost" in caplog.text


def test_a_collapse_is_told_once_after_the_first_quarter(tmp_path, caplog):
    made = trainer(tmp_path, compared=True, epochs=8, lr=1e-12)
    with torch.no_grad():
        made.step.student.head.bias[1] = 100  # whatever it sees
    made.fit()
    told = [record.getMessage() for record in caplog.records if "collapses" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("epoch 3: the student uses 1.0 classes in effect and its teacher 3.0")
