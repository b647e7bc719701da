"""A run that was stopped goes on as if nothing had been, or says what has changed; kills and damage: tests/faults."""

import json
import os
from dataclasses import replace

import pytest
import torch
from PIL import Image

from graphkd import ops
from graphkd.data import fingerprint
from graphkd.data.folders import open_folder
from graphkd.data.store.embed import embed
from graphkd.data.transforms import CenterView, RandomCropView
from graphkd.data.views import Views
from graphkd.distillers.kd import KDDistiller
from graphkd.distillers.pkt import PKTDistiller
from graphkd.errors import CheckpointError, DistributedError
from graphkd.step import Step
from graphkd.training.agreement import of_source, of_teacher
from graphkd.training.loop import Trainer
from tests.distributed.test_agreement_ranks import labelled, source
from tests.distributed.test_agreement_ranks import trainer as of_parts
from tests.faults.jobs import ColourTeacher
from tests.training.tiny import (
    HARD,
    Mimic,
    Named,
    Student,
    at_batch,
    config,
    end_of,
    interrupt,
    lines,
    same,
    teacher,
    trainer,
    views,
)


def stopped(made, batch):
    """Let the run die at the start of a batch, as a kill would."""
    with pytest.raises(KeyboardInterrupt):
        at_batch(made, batch, interrupt).fit()


@pytest.mark.parametrize(("batch", "workers"), [(2, 0), (5, 0), (7, 0), (12, 0), (7, 2)])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, batch, workers):
    options = HARD | {"workers": workers}
    trainer(tmp_path / "whole", **options).fit()
    stopped(trainer(tmp_path / "broken", **options), batch)
    trainer(tmp_path / "broken", **options).fit(resume=True)
    same(end_of(tmp_path / "whole"), end_of(tmp_path / "broken"))
    assert lines(tmp_path / "whole") == lines(tmp_path / "broken")


def test_resuming_a_finished_run_trains_nothing_and_scores_it(tmp_path):
    first = trainer(tmp_path, scored=True).fit()
    again = trainer(tmp_path, scored=True).fit(resume=True)
    assert again.updates == first.updates
    assert again.scores.top1 == first.scores.top1


def relational(folder):
    """A run whose loss is another implementation's by the plan of the kernels."""
    torch.manual_seed(0)
    step = Step(Student(), KDDistiller(), PKTDistiller())
    return Trainer(step, views(), teacher, config(checkpoint_every=2), folder)


def other_plan():
    """A plan that runs PKT in blocks at every size; the shipped one does not at these."""
    blocks = {"edge_pkt.inner": {"float32": ((0, "blocked"),)}}
    return ops.Table("another plan", {**ops.in_force("cpu").choices, **blocks})


def test_a_resumed_run_keeps_the_plan_that_it_began_with(tmp_path):
    relational(tmp_path / "whole").fit()
    before, other = ops.in_force("cpu"), other_plan()
    with ops.using("cpu", other):
        relational(tmp_path / "other").fit()
    with pytest.raises(AssertionError):  # else nothing is shown
        same(end_of(tmp_path / "whole"), end_of(tmp_path / "other"))
    stopped(relational(tmp_path / "broken"), 5)
    with ops.using("cpu", other):
        relational(tmp_path / "broken").fit(resume=True)
        assert ops.in_force("cpu") is other
    same(end_of(tmp_path / "whole"), end_of(tmp_path / "broken"))
    for name in ("whole", "broken"):
        assert json.loads((tmp_path / name / "environment.json").read_text())["kernels"] == before.digest


def test_what_failed_since_a_run_began_is_not_used_when_it_goes_on(tmp_path, caplog):
    with ops.using("cpu", other_plan()):
        stopped(relational(tmp_path), 5)
    failed = {"edge_pkt": {"float32": {"blocked": "value off by 0.1", "eager": True}}}
    with ops.using("cpu", replace(other_plan(), verified=failed)):
        made = relational(tmp_path)
        made.fit(resume=True)
    assert made.plan.choices == other_plan().choices
    assert made.plan.failures == ["edge_pkt, blocked, float32: value off by 0.1"]
    assert "goes on without what has failed here since it began: edge_pkt, blocked, float32" in caplog.text
    with ops.using("cpu", made.plan):
        assert ops.explain("edge_pkt", [(8, 8), None, (8, 8), None]).plan.backend == "eager"


@pytest.mark.parametrize("damage", [None, "{", "{}", '{"choices": {}, "verified": {}}'])
def test_a_plan_that_is_gone_is_needed_where_another_is_in_force(tmp_path, damage):
    stopped(relational(tmp_path), 5)
    (tmp_path / "kernels.json").unlink() if damage is None else (tmp_path / "kernels.json").write_text(damage)
    with (
        ops.using("cpu", other_plan()),
        pytest.raises(
            CheckpointError, match=r"kernels.json is gone, damaged or changed, .*: put the file back, or choose another"
        ),
    ):
        relational(tmp_path).fit(resume=True)
    relational(tmp_path).fit(resume=True)


def test_a_run_from_before_plans_were_kept_goes_on(tmp_path):
    stopped(relational(tmp_path), 5)
    (tmp_path / "kernels.json").unlink()
    about = json.loads((tmp_path / "environment.json").read_text())
    del about["kernels"]
    (tmp_path / "environment.json").write_text(json.dumps(about))
    relational(tmp_path).fit(resume=True)
    assert (tmp_path / "kernels.json").exists()


def test_processes_with_other_plans_do_not_train(tmp_path, monkeypatch):
    made = relational(tmp_path)
    digest = ops.in_force("cpu").digest
    said = lambda text: [text, text.replace(digest, "another") if digest in text else "others"]  # noqa: E731
    monkeypatch.setattr(made.ranks, "texts", said)
    with pytest.raises(DistributedError, match="plan of the kernels is .* on rank 0 and another on rank 1"):
        made.fit()


OTHERS = (
    (
        {"methods": lambda: [KDDistiller(), PKTDistiller(weight=4.0)]},
        "distillers/1/terms/divergence/0 was 3.0, now 4.0",
    ),
    ({"teacher": lambda: Named("two")}, "teacher_fingerprint/weights was one, now two"),
    ({"teacher": lambda: None}, "teacher_fingerprint/weights was one, now absent"),
    (
        {"views": lambda: Views(source(), student=RandomCropView(8), labels=True)},
        "views/student/padding was absent, now",
    ),
    ({"views": lambda: labelled(classes=("green", "red", "blue"))}, "the class names differ"),
    (
        {"views": lambda: labelled(classes={"a": "red", "b": "green", "c": "blue"})},
        "the class names differ",
    ),
    ({"views": lambda: labelled(targets=(1, 0, 2, 1))}, "the labels differ"),
)


def test_resuming_with_other_parts_names_them(tmp_path):
    def made(changes):
        return of_parts(tmp_path, False, {"views": labelled} | changes)

    made({}).fit()
    for changes, named in OTHERS:
        with pytest.raises(CheckpointError, match=named):
            made(changes).fit(resume=True)
    (tmp_path / "config.json").write_text("{}")  # every checkpoint holds the same
    with pytest.raises(CheckpointError, match="teacher_fingerprint/weights was one, now two"):
        made({"teacher": lambda: Named("two")}).fit(resume=True)


def test_labels_that_are_not_handed_out_are_not_compared(tmp_path):
    images = views().source
    images.target = None  # whoever asks fails
    assert of_source(images, labels=False)["data"]["labels"] is None


def test_a_store_tells_of_its_teacher_and_of_how_it_was_made(tmp_path):
    store = embed(ColourTeacher(), views().source, tmp_path, transform=CenterView(8), progress=False)
    known = of_teacher(store)
    assert known["teacher_fingerprint"] == of_teacher(ColourTeacher())["teacher_fingerprint"]
    assert known["store"] == {"transform": store.manifest.transform, "dtype": "float32", "views": 1}
    assert of_teacher(None) == {"teacher_fingerprint": None, "store": None}


def files(folder, count=8):
    """Images of one colour each, as files of equal size."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(folder / f"{number}.bmp")
    return open_folder(folder, layout="flat")


def over(folder, run, **changes):
    """A trainer of images in a folder."""
    own = Views(open_folder(folder, layout="flat"), student=RandomCropView(8, padding=1))
    return Trainer(Step(Student(), Mimic()), own, teacher, config(batch_size=4, **changes), run)


def repaint(path, keep_time):
    """Another image of the same size in bytes."""
    before = path.stat()
    Image.new("RGB", (8, 8), (0, 255, 0)).save(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 10**9)))


@pytest.mark.parametrize("keep_time", [True, False])
def test_images_replaced_by_others_of_equal_size_are_noticed(tmp_path, keep_time):
    files(tmp_path / "images")
    stopped(over(tmp_path / "images", tmp_path / "run"), 4)
    repaint(tmp_path / "images" / "3.bmp", keep_time)
    with pytest.raises(CheckpointError, match=r"started with other options: the contents of the images differ"):
        over(tmp_path / "images", tmp_path / "run").fit(resume=True)


def test_beyond_the_images_that_are_compared_the_times_are_and_are_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fingerprint, "_SAMPLED", 2)  # the first and the fifth
    files(tmp_path / "images")
    stopped(over(tmp_path / "images", tmp_path / "run"), 4)
    repaint(tmp_path / "images" / "3.bmp", keep_time=False)
    over(tmp_path / "images", tmp_path / "run").fit(resume=True)
    assert "files of images were written since this run began" in caplog.text
