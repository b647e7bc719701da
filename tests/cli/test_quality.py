"""No label anywhere: what a run keeps back, what it says at its end, and what evaluate and report say afterwards."""

import json
import shlex
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from graphkd.cli.console import Console
from graphkd.cli.int8 import _own_images
from graphkd.cli.main import main
from graphkd.cli.option_groups import Output
from graphkd.cli.scoring import ask_before
from graphkd.cli.teacher_features import TeacherFeatures
from graphkd.data.class_names import Classes
from graphkd.data.folders import open_folder
from graphkd.data.opening import hold_out
from graphkd.training.run_folder import read_metrics
from tests.cli.conftest import write_digits

SMALL = "--student test_efficientnet --size 32 --no-flip --epochs 2 --batch-size 16 --lr 3e-3 --trackers ''"
NUMBERS = {"agreement", "calibration_to_teacher", "student_confidence", "teacher_confidence", "student_entropy"}
NUMBERS |= {"teacher_entropy", "student_classes", "teacher_classes"}


@pytest.fixture(scope="module")
def home(tmp_path_factory, digits, teacher_checkpoint):
    """Forty loose images, a store and a student of them, made by the commands themselves."""
    home = tmp_path_factory.mktemp("home")
    write_digits(home / "loose", digits, 40)
    (home / "names.txt").write_text("\n".join(digits.classes))
    line = f"distill --data {home}/loose --classes {home}/names.txt --teacher {teacher_checkpoint} --templates photo"
    line = f"{line} --text-cache {home}/text --store {home}/features --run {home}/run --held-out 0.25 {SMALL}"
    assert main(shlex.split(f"{line} --quiet --report")) == 0
    return home


@pytest.fixture
def images(home, teacher):
    """The options that name images and teacher."""
    return f"--data {home}/loose --classes {home}/names.txt {teacher} --text-cache {home}/text"


def test_a_run_without_labels_ends_with_its_quality(home):
    found = json.loads((home / "run" / "results.json").read_text())
    quality = found["quality"]
    assert found["updates"] == 2  # 30 images in batches of 16; 10 are held out
    assert quality.keys() >= NUMBERS
    assert quality["images"] == sum(row["teacher"] for row in quality["per_class"]) == 10
    scored = [line for line in read_metrics(home / "run" / "metrics.jsonl") if "agreement" in line]
    assert [line["epoch"] for line in scored] == [1, 2]
    assert scored[-1].items() >= {name: quality[name] for name in NUMBERS}.items()
    best = max(scored, key=lambda line: line["agreement"])
    assert quality["best"] == {"run": f"{home}/run/best", "epoch": best["epoch"], "agreement": best["agreement"]}
    report = (home / "run" / "report.md").read_text()
    assert f"agreement with the teacher {100 * quality['agreement']:.2f} % of 10 images" in report
    assert "top-1" not in report


def test_the_page_begins_with_it(graphkd, home):
    page = (home / "run" / "report.html").read_text()
    assert page.index('id="quality"') < page.index('id="summary"')
    for name in ("quality-classes", "quality-reliability", "quality-uncertain"):
        assert f'id="{name}"' in page
    assert "Agreement on held-out images" not in page  # a picture, not a text
    found = graphkd.json(f"report {home}/run --out page.html")
    assert "quality" not in found["absent"]


def test_a_store_is_read_and_the_teacher_not_asked(graphkd, home, images, asked):
    line = f"distill {images} --store {home}/features --held-out 0.25 --run again --no-report --quiet {SMALL}"
    found = graphkd.json(line)
    assert asked == [4]  # the rehearsal
    kept = json.loads((home / "run" / "results.json").read_text())
    assert found["quality"] | {"best": 0} == kept["quality"] | {"best": 0}


def test_without_a_store_it_is_asked_once_about_what_is_held_out(graphkd, images, asked):
    line = f"distill {images} --held-out 0.25 --run live --no-report --watch 0 {SMALL}"
    answer = graphkd(line)
    assert asked == [4, 10, 16, 16]  # the rehearsal, the held-out images, two epochs of one batch
    assert any("on 10 held-out images" in text for text in answer.err)
    assert "agreement with the teacher" in answer.out


def test_nothing_held_out_is_as_before(graphkd, images):
    found = graphkd.json(f"distill {images} --held-out 0 --run all --no-report --quiet {SMALL} --batch-size 40")
    assert found["updates"] == 2
    assert "quality" not in found
    assert not (Path("all") / "best").exists()


def test_a_resumed_run_has_the_same_images_held_out(graphkd, images):
    line = f"distill {images} --run part --no-report --quiet {SMALL} --epochs 1"
    graphkd(f"{line} --held-out 0.25 --seed 3")
    other = "distill --config part/run.yaml --resume --quiet"
    graphkd(other)
    graphkd.refused(
        f"{other} --held-out 0.5", "started with other options: images was 30, now 20", "Resume with the same"
    )


def test_shards_without_labels(graphkd, home, images):
    Path("shards").mkdir()
    with tarfile.open("shards/a.tar", "w") as archive:
        for path in sorted((home / "loose").iterdir()):
            archive.add(path, path.name)
    line = images.replace(f"{home}/loose", "shards")
    found = graphkd.json(f"distill {line} --run sharded --no-report --quiet {SMALL} --epochs 1")
    assert found["quality"]["images"] == 8  # a fifth


def test_loose_images_of_a_folder_of_ones_own(graphkd, home, images):
    shutil.copytree(home / "loose", "other")
    found = graphkd.json(f"distill {images} --val other --run apart --no-report --quiet {SMALL} --epochs 1")
    assert (found["updates"], found["quality"]["images"]) == (2, 40)


def test_evaluate_asks_the_teacher_of_the_run(graphkd, home, teacher):
    line = f"evaluate --data {home}/loose"
    found = graphkd.json(f"{line} --model {home}/run")["quality"]
    assert found["images"] == 40
    assert len(found["least_certain"]) == 10
    assert found["least_certain"][0].keys() == {"id", "student", "student_confidence", "teacher", "teacher_confidence"}
    assert graphkd.json(f"{line} --model {home}/run {teacher}")["quality"] == found
    text = graphkd(f"{line} --model {home}/run/best --quiet").out
    assert text.startswith(f"{home}/run/best: agreement with the teacher ")
    assert graphkd.json(f"{line} --model {home}/run --no-per-class")["quality"]["per_class"] is None


def test_evaluate_asks_the_teacher_of_the_run_about_an_export(graphkd, home):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'graphkd[export]'")
    shutil.copytree(home / "run", "mine")
    graphkd("export mine --formats onnx --quiet")
    own, exported = (
        graphkd.json(f"evaluate --model {model} --data {home}/loose")["quality"]
        for model in ("mine", "mine/export/model.onnx")
    )
    assert exported["agreement"] == own["agreement"]


def test_evaluate_says_what_it_lacks(graphkd, home):
    shutil.copytree(home / "run", "alone")
    (Path("alone") / "run.yaml").unlink()
    graphkd.refused(
        f"evaluate --model alone --data {home}/loose",
        "these images have no labels, and nothing tells who taught alone",
        "give --teacher",
    )


def test_evaluate_refuses_a_teacher_of_other_classes(graphkd, home, images):
    names = (home / "names.txt").read_text().splitlines()
    Path("turned.txt").write_text("\n".join(reversed(names)))
    line = images.replace(f"{home}/names.txt", "turned.txt")
    graphkd(f"distill {line} --run turned --no-report --quiet {SMALL} --epochs 1")
    what = f"the classes of turned are not those of {home}/run"
    graphkd.refused(f"evaluate --data {home}/loose --model {home}/run --teacher turned", what, "of the same classes")


def test_eight_bits_are_judged_on_what_was_held_out(home, digits):
    calibrated, judged = _own_images(home / "run" / "best", Classes(digits.classes))
    assert (len(calibrated), len(judged)) == (30, 10)
    assert set(calibrated.ids).isdisjoint(judged.ids)


def test_labels_and_a_teacher_give_both(graphkd, class_folders, teacher):
    graphkd(f"distill --data images {teacher} --run taught --no-report --quiet {SMALL} --epochs 1")
    kept = json.loads(Path("taught/results.json").read_text())
    assert kept["images"] == kept["quality"]["images"] == 12
    assert kept["quality"]["best"] is None
    found = graphkd.json(f"evaluate --model taught {teacher} --data images")
    assert found["images"] == found["quality"]["images"] == 60
    assert "quality" not in graphkd.json("evaluate --model taught --data images")


def test_an_image_that_is_held_out_and_cannot_be_read(graphkd, home, images):
    shutil.copytree(home / "loose", "bad")
    for path in Path("bad").iterdir():
        path.write_text("no image")
    line = images.replace(f"{home}/loose", "bad")
    graphkd.refused(f"distill {line} --run broken {SMALL}", "cannot read image bad/", "repair or remove it")


def test_a_teacher_without_class_scores_cannot_be_compared(home, capsys):
    parts = hold_out(open_folder(home / "loose", layout="flat"), 0.25)
    mute, features = SimpleNamespace(num_classes=None), TeacherFeatures(scored=pytest.fail)
    config = SimpleNamespace(student=SimpleNamespace(student_head="classes"))
    assert ask_before(config, parts, mute, features, torch.device("cpu"), Console(Output())) == ({}, None)
    assert "10 held-out images: a teacher without class scores cannot be compared on them" in capsys.readouterr().err
