"""A run that was stopped, killed or damaged goes on as if nothing had been."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from graphkd.data import fingerprint
from graphkd.data.class_names import Classes
from graphkd.data.folders import open_folder
from graphkd.data.sources import ArraySource
from graphkd.data.store.embed import embed
from graphkd.data.transforms import CenterView, RandomCropView
from graphkd.data.views import Views
from graphkd.distillers.kd import KDDistiller
from graphkd.errors import CheckpointError
from graphkd.features import Features
from graphkd.step import Step
from graphkd.training.agreement import of_source, of_teacher
from graphkd.training.checkpoint import Checkpoints
from graphkd.training.loop import Trainer
from tests.training.tiny import (
    HARD,
    Mimic,
    Named,
    Student,
    assert_same_state,
    config,
    lines,
    teacher,
    trainer,
    views,
    weights,
)

ROOT = Path(__file__).parents[2]


class Colours(Named):
    """A teacher whose features are the mean colours."""

    embedding_dim, classes, num_classes = 3, None, None

    def features(self, images):
        return Features(images.mean((2, 3)))


class StopError(Exception):
    """Stands for a kill."""


def stop_after(made, batches):
    """Let the run die at the start of a batch, as a kill would."""
    features, seen = made.features, []

    def counted(batch):
        seen.append(0)
        if len(seen) > batches:
            raise StopError
        return features(batch)

    made.features = counted
    with pytest.raises(StopError):
        made.fit(resume=True)


@pytest.mark.parametrize("batches", [1, 4, 6, 11])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, batches):
    options = HARD | {"workers": 0}
    trainer(tmp_path / "whole", **options).fit()
    stop_after(trainer(tmp_path / "broken", **options), batches)
    trainer(tmp_path / "broken", **options).fit(resume=True)
    assert_same_state(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert lines(tmp_path / "whole") == lines(tmp_path / "broken")


def test_resuming_a_finished_run_trains_nothing_and_scores_it(tmp_path):
    first = trainer(tmp_path, scored=True).fit()
    again = trainer(tmp_path, scored=True).fit(resume=True)
    assert again.updates == first.updates
    assert again.scores.top1 == first.scores.top1


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    trainer(tmp_path, epochs=1).fit()
    with pytest.raises(CheckpointError, match="holds a run already: resume it"):
        trainer(tmp_path, epochs=1).fit()


def test_resuming_with_other_options_names_them(tmp_path):
    trainer(tmp_path, epochs=1).fit()
    with pytest.raises(CheckpointError, match=r"lr was 0.01, now 0.5"):
        trainer(tmp_path, epochs=1, lr=0.5).fit(resume=True)


def test_resuming_with_other_methods_or_views_names_them(tmp_path):
    def made(weight, padding):
        own = Views(views().source, student=RandomCropView(8, padding=padding), seed=3)
        return Trainer(Step(Student(), KDDistiller(weight=weight)), own, teacher, config(epochs=1), tmp_path)

    made(1.0, 1).fit()
    for other, named in (
        ((2.0, 1), "distillers/0/terms/kl/0 was 1.0, now 2.0"),
        ((1.0, 2), "views/student/padding was 1, now 2"),
    ):
        with pytest.raises(CheckpointError, match=named):
            made(*other).fit(resume=True)


def test_resuming_with_another_teacher_other_classes_or_labels_names_them(tmp_path):
    def made(who="one", classes=("red", "green", "blue"), first=0):
        targets = [(number + first) % 3 for number in range(16)]
        images = np.zeros((16, 8, 8, 3), dtype=np.uint8)
        source = ArraySource(images, targets=targets, classes=Classes(classes))
        own = Views(source, student=RandomCropView(8, padding=1), labels=True)
        return Trainer(Step(Student(), Mimic()), own, teacher, config(epochs=1), tmp_path, teacher=who and Named(who))

    made().fit()
    for other, named in (
        ({"who": "two"}, "teacher_fingerprint/weights was one, now two"),
        ({"who": None}, "teacher_fingerprint/weights was one, now absent"),
        ({"classes": ("green", "red", "blue")}, "data/classes was [0-9a-f]{64}, now"),
        ({"classes": {"a": "red", "b": "green", "c": "blue"}}, "data/classes was [0-9a-f]{64}, now"),
        ({"first": 1}, "data/labels was [0-9a-f]{64}, now"),
    ):
        with pytest.raises(CheckpointError, match=named):
            made(**other).fit(resume=True)
    (tmp_path / "config.json").write_text("{}")  # every checkpoint holds the same
    with pytest.raises(CheckpointError, match="teacher_fingerprint/weights was one, now two"):
        made("two").fit(resume=True)


def test_labels_that_are_not_handed_out_are_not_compared(tmp_path):
    source = views().source
    source.target = None  # whoever asks fails
    assert of_source(source, labels=False)["data"]["labels"] is None


def test_a_store_tells_of_its_teacher_and_of_how_it_was_made(tmp_path):
    source = views().source
    store = embed(Colours("one"), source, tmp_path, transform=CenterView(8), progress=False)
    known = of_teacher(store)
    assert known["teacher_fingerprint"] == of_teacher(Colours("one"))["teacher_fingerprint"]
    assert known["store"] == {"transform": store.manifest.transform, "dtype": "float32", "views": 1}
    assert of_teacher(None) == {"teacher_fingerprint": None, "store": None}


def test_resuming_another_model_names_the_tensors(tmp_path):
    trainer(tmp_path, epochs=1).fit()
    with pytest.raises(CheckpointError, match=r"of another shape.*\(8, 4\)|\(4, 8\) instead of \(4, 6\)"):
        trainer(tmp_path, epochs=1, width=6).fit(resume=True)


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path, caplog):
    options = {"epochs": 2, "checkpoint_every": 2}
    trainer(tmp_path / "whole", **options).fit()
    shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
    newest = Checkpoints(tmp_path / "damaged/checkpoints").updates()[-1]
    file = Checkpoints(tmp_path / "damaged/checkpoints").path(newest) / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    trainer(tmp_path / "damaged", **options).fit(resume=True)
    assert "is damaged" in caplog.text
    assert_same_state(weights(tmp_path / "whole"), weights(tmp_path / "damaged"))
    assert lines(tmp_path / "whole") == lines(tmp_path / "damaged")


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
    stop_after(over(tmp_path / "images", tmp_path / "run"), 3)
    repaint(tmp_path / "images" / "3.bmp", keep_time)
    with pytest.raises(CheckpointError, match=r"started with other options: data/content was [0-9a-f]{64}, now"):
        over(tmp_path / "images", tmp_path / "run").fit(resume=True)


def test_beyond_the_images_that_are_compared_the_times_are_and_are_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fingerprint, "_SAMPLED", 2)  # the first and the fifth
    files(tmp_path / "images")
    stop_after(over(tmp_path / "images", tmp_path / "run"), 3)
    repaint(tmp_path / "images" / "3.bmp", keep_time=False)
    over(tmp_path / "images", tmp_path / "run").fit(resume=True)
    assert "files of images were written since this run began" in caplog.text


def launch(run, *flags, ranks=1):
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *start, "-m", "tests.training.tiny", str(run), *flags]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.slow
def test_sigkill_in_the_middle_of_an_epoch_with_two_workers_then_resume(tmp_path):
    whole = launch(tmp_path / "whole")
    assert whole.wait(120) == 0, whole.stderr.read()
    chance, killed = random.Random(0), 0
    for _ in range(4):
        process = launch(tmp_path / "broken", "--slow")
        waited = time.monotonic()
        done = len(lines(tmp_path / "broken"))
        while process.poll() is None and len(lines(tmp_path / "broken")) <= done and time.monotonic() < waited + 60:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.1)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed >= 3
    process = launch(tmp_path / "broken")
    assert process.wait(120) == 0, process.stderr.read()
    assert_same_state(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert lines(tmp_path / "whole") == lines(tmp_path / "broken")


def told(run, errors):
    """How each of two ranks says that it ended."""
    found = [run.with_name(f"{run.name}.rank{rank}.json") for rank in range(2)]
    assert all(each.exists() for each in found), errors
    return [json.loads(each.read_text()) for each in found]


@pytest.mark.slow
def test_two_processes_end_with_the_same_student_and_stop_together(tmp_path):
    _, errors = launch(tmp_path / "good", ranks=2).communicate(timeout=120)
    one, two = told(tmp_path / "good", errors)
    assert one == two
    assert (one["updates"], one["images"]) == (9, 12)  # every held-out image is scored once
    _, errors = launch(tmp_path / "bad", "--poison", ranks=2).communicate(timeout=120)  # one of them breaks
    assert all("NonFiniteError: mimic/feature became NaN" in each["error"] for each in told(tmp_path / "bad", errors))


def test_batchnorm_and_dropout_are_in_the_stand_in():  # else the tests above would prove less than they say
    assert {nn.BatchNorm2d, nn.Dropout} <= {type(part) for part in Student().modules()}
