"""The main job from the command line, on small folders of real images."""

import json
import re

import pytest
from PIL import Image

from graphkd.data.opening import Parts
from graphkd.data.sources import FileSource
from graphkd.errors import CheckpointError, DataError, StoreError, TeacherError, UnknownNameError
from graphkd.teachers.texts import imagenet_names


def forwards(printed):
    return [int(each) for each in re.findall(r"teacher forwards: (\d+)", printed)]


def test_class_folders_then_the_store_answers_for_the_teacher(run_job, class_folders, teacher_checkpoint, tmp_path):
    job = ["--data", class_folders, "--teacher", teacher_checkpoint, "--store", tmp_path / "features"]
    first = run_job(*job, "--run", tmp_path / "one", "--methods", "prg,labels", "--templates", "photo", drawn=True)
    assert forwards(first) == [2]  # 48 images to train on and 12 to score on, one batch each
    assert "teacher, zero-shot" in first
    assert "student, labels" in first
    assert (tmp_path / "one" / "report.html").stat().st_size > 100_000
    second = run_job(*job, "--run", tmp_path / "two", "--methods", "prg", "--templates", "photo", "--chunk", "8")
    assert forwards(second) == [0]
    assert "| student, PRG |" in (tmp_path / "two" / "report.md").read_text()


@pytest.mark.parametrize(("count", "method"), [(4, "kd"), pytest.param(1000, "prg", marks=pytest.mark.slow)])
def test_imagenets_own_folders(run_job, teacher_checkpoint, tmp_path, count, method):
    ids = list(imagenet_names())[:count]
    for label, wnid in enumerate(ids):
        for part in ("train", "val"):
            folder = tmp_path / "imagenet" / part / wnid
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), (label % 250, 0, 0)).save(folder / "0.JPEG")
    job = ["--data", tmp_path / "imagenet", "--teacher", teacher_checkpoint, "--templates", "photo"]
    job += ["--methods", method]
    first, second = (run_job(*job, "--store", tmp_path / "features") for _ in range(2))
    assert f"of {count} held-out images" in first
    assert "| student, " in (tmp_path / "runs" / "imagenet-1" / "report.md").read_text()
    assert min(forwards(first)) > 0
    assert forwards(second) == [0]


def test_loose_images_need_class_names_and_no_labels(run_job, flat_folder, teacher_checkpoint, tmp_path):
    root, names = flat_folder
    job = ["--data", root, "--teacher", teacher_checkpoint, "--templates", "photo", "--store", tmp_path / "features"]
    with pytest.raises(DataError, match="loose images need class names for the prompts: --classes"):
        run_job(*job)
    printed = run_job(*job, "--classes", names, "--methods", "prg,kd,mimic")
    assert forwards(printed) == [1]
    assert "no labelled images to score on: give some with --val" in printed
    assert forwards(run_job(*job, "--classes", names, "--methods", "prg")) == [0]
    config = json.loads((tmp_path / "runs" / "loose-2" / "prg" / "config.json").read_text())
    assert config["images"] == 60


def test_training_without_labels_never_reads_one(run_job, class_folders, teacher_checkpoint, tmp_path, monkeypatch):
    from jobs import Job

    from graphkd.data import views

    class Sealed(views.Views):
        def _target(self, index):
            raise AssertionError("a label was read")

    monkeypatch.setattr("imagenet_prg.Views", Sealed)
    monkeypatch.setattr(Job, "labelled", False)
    source = _without_labels(class_folders)
    monkeypatch.setattr("jobs.ImageData.parts", lambda data, val: Parts(source, source, None))
    run_job(
        "--data", class_folders, "--teacher", teacher_checkpoint, "--templates", "photo", "--methods", "prg,kd,mimic"
    )


def _without_labels(root):
    from graphkd import open_folder

    source = open_folder(root)

    class Unlabelled(FileSource):
        def target(self, index):
            raise AssertionError("a label was read")

    source.__class__ = Unlabelled
    return source


def test_a_store_of_another_teacher_is_refused(run_job, class_folders, teacher_checkpoint, tmp_path):
    job = ["--data", class_folders, "--teacher", teacher_checkpoint, "--store", tmp_path / "features"]
    job += ["--methods", "prg"]
    run_job(*job, "--templates", "photo")
    with pytest.raises(StoreError, match="prompts"):
        run_job(*job, "--templates", "cifar")


def test_wrong_names_are_answered(run_job, class_folders, teacher_checkpoint, tmp_path):
    job = ["--data", class_folders, "--teacher", teacher_checkpoint, "--templates", "photo"]
    with pytest.raises(UnknownNameError, match="unknown student 'resnet81'; did you mean .*resnet"):
        run_job(*job, "--student", "resnet81")
    with pytest.raises(UnknownNameError, match="unknown option of 'prg' 'node_wieght'; did you mean 'node_weight'"):
        run_job(*job, "--methods", "prg", "--prg", "node_wieght=2")
    with pytest.raises(SystemExit, match="unknown method 'prq': choose among prg, kd, mimic, labels"):
        run_job(*job, "--methods", "prq")
    with pytest.raises(SystemExit, match="--prg takes OPTION=VALUE, found 'rho'"):
        run_job(*job, "--methods", "prg", "--prg", "rho")
    with pytest.raises(DataError, match="the limit is 1e-06 megapixels"):
        run_job(*job, "--max-megapixels", "0.000001")
    lonely = tmp_path / "lonely" / teacher_checkpoint.name
    lonely.parent.mkdir()
    lonely.write_bytes(teacher_checkpoint.read_bytes())
    with pytest.raises(TeacherError, match="no open_clip_config.json or config.json beside it"):
        run_job("--data", class_folders, "--teacher", lonely)


def test_a_run_folder_is_not_overwritten(run_job, class_folders, teacher_checkpoint, tmp_path):
    job = ["--data", class_folders, "--teacher", teacher_checkpoint, "--templates", "photo", "--methods", "prg"]
    job += ["--run", tmp_path / "one", "--prg", "node_weight=2", "--prg", "preset=ega"]
    run_job(*job)
    with pytest.raises(CheckpointError, match="holds a run already: resume it, or choose another"):
        run_job(*job)
    assert "student, PRG" in run_job(*job, "--resume")
