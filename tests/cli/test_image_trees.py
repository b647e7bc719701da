"""Images as people keep them: ImageNet's folders, folders that lack a class, codes, names that are no UTF-8."""

import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graphkd.cli.main import main
from graphkd.teachers.clip import CLIPTeacher
from graphkd.teachers.texts import imagenet_names

SMALL = "--student test_efficientnet --size 32 --no-flip --epochs 2 --batch-size 8 --trackers '' --no-report --watch 0"
IDS = {"n01440764": "tench", "n01443537": "goldfish", "n01494475": "hammerhead shark"}
SHADE = {"tench": 40, "goldfish": 120, "hammerhead shark": 200}


def fill(folder, name, count, shade=0):
    (folder / name).mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((32, 32, 3), shade + i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory, teacher_checkpoint):
    """A tree of three of ImageNet's ids, and a student of it."""
    home = tmp_path_factory.mktemp("home")
    for wnid, name in IDS.items():
        fill(home / "imagenet" / "train", wnid, 8, SHADE[name])
        fill(home / "imagenet" / "val", wnid, 4, SHADE[name])
    line = f"distill --data {home}/imagenet --teacher {teacher_checkpoint} --templates photo --text-cache {home}/text"
    assert main(shlex.split(f"{line} --store {home}/features --run {home}/run --quiet {SMALL}")) == 0
    return home


@pytest.fixture
def scores(graphkd, home):
    """Share right of each class that has images, by ``graphkd evaluate``."""

    def read(line):
        answer = graphkd(f"evaluate {line} --json")
        rows = json.loads(answer.out)["per_class"]
        return {row["class"]: row["right"] for row in rows if row["images"]}, answer.err

    return read


def test_wordnet_ids_to_train_and_to_score_on(home):
    assert json.loads((home / "run" / "results.json").read_text())["images"] == 12
    assert json.loads((home / "run" / "student.json").read_text())["classes"] == IDS


def test_a_second_run_reads_the_store(graphkd, home, teacher, monkeypatch):
    features, seen = CLIPTeacher.features, []
    monkeypatch.setattr(
        CLIPTeacher, "features", lambda self, images: seen.append(len(images)) or features(self, images)
    )
    line = f"distill --data {home}/imagenet {teacher} --text-cache {home}/text --store {home}/features --run again"
    graphkd(f"{line} {SMALL}")
    assert seen == [4, 12]  # the rehearsal, and the images that are scored on


def test_a_student_is_scored_on_ids_and_on_names_alike(home, scores, tmp_path):
    whole, _ = scores(f"--model {home}/run --data {home}/imagenet")
    assert set(whole) == set(IDS.values())
    assert any(whole.values())
    assert scores(f"--model {home}/run --data {home}/imagenet/val")[0] == whole
    for wnid, name in IDS.items():  # another order than that of the ids
        shutil.copytree(home / "imagenet" / "val" / wnid, tmp_path / "named" / name.replace(" ", "_"))
    assert scores(f"--model {home}/run --data named")[0] == whole
    assert scores(f"--teacher {home}/run --data named")[0] == whole


def test_a_student_of_names_is_scored_on_ids(graphkd, home, scores, tmp_path):
    for name, shade in SHADE.items():
        fill(tmp_path / "named", name, 8, shade)
    line = f"distill --data named --method none --labels task --held-out 0 --run own --quiet {SMALL}"
    graphkd(line)
    assert set(scores(f"--model own --data {home}/imagenet/val")[0]) == set(IDS.values())
    seen = graphkd.json(f"inspect --model own --teacher {home}/run --teacher-size 32 --data named")
    assert "top1" in seen["student"]
    assert "top1" not in seen["teacher"]  # its classes have another order: numbers would say nothing
    assert "equal_predictions" not in seen["agreement"]
    about = json.loads(Path("own/student.json").read_text())
    assert about["classes"] == {name: name for name in sorted(SHADE)}
    Path("own/student.json").write_text(json.dumps(about | {"classes": sorted(SHADE)}))  # as older runs have it
    assert set(scores(f"--model own --data {home}/imagenet/val")[0]) == set(IDS.values())


def test_a_student_as_teacher_gives_its_classes_whatever_the_order_of_the_folders(graphkd, home, tmp_path):
    for name in ("goldfish", "tench"):  # the other way round, and one is not there
        fill(tmp_path / "named", name, 8, SHADE[name])
    line = f"distill --data named --teacher {home}/run --teacher-size 32 --method kd --run own --json {SMALL}"
    answer = graphkd(line)
    assert "named has no image of 1 of 3 classes: hammerhead shark" in answer.err
    assert json.loads(Path("own/student.json").read_text())["classes"] == IDS


def test_images_that_lack_a_class_are_scored_on_what_is_there(graphkd, home, scores, tmp_path):
    fill(tmp_path / "some", "goldfish", 4, SHADE["goldfish"])
    (tmp_path / "some" / "tench").mkdir()
    found, said = scores(f"--model {home}/run --data some")
    assert set(found) == {"goldfish"}
    assert "some has no image of 2 of 3 classes: tench, hammerhead shark" in said
    fill(tmp_path / "some", "owl", 1)
    graphkd.refused(f"evaluate --model {home}/run --data some", "folders without a name: 'owl'")


def test_a_bad_image_among_those_that_are_scored_on_is_left_out(graphkd, home, scores, tmp_path):
    fill(tmp_path / "many", "goldfish", 101)
    (tmp_path / "many" / "goldfish" / "bad.png").write_text("no image")
    found, said = scores(f"--model {home}/run --data many --on-error skip")
    assert set(found) == {"goldfish"}
    assert "left out an image of many that cannot be read: goldfish/bad.png" in said
    graphkd(f"evaluate --model {home}/run --data many", 2)


def test_the_other_commands_open_the_same_tree(graphkd, home, teacher):
    line = f"--data {home}/imagenet {teacher} --text-cache {home}/text"
    assert graphkd.json(f"embed {line} --out other")["classes"] == list(IDS.values())
    student = graphkd.json(f"inspect --model {home}/run {line} --limit 9")["student"]
    assert {"top1", "neighbours_of_one_label"} <= set(student)
    graphkd(f"store verify other --data {home}/imagenet")
    graphkd(f"export {home}/run --formats safetensors --check {home}/imagenet --out files")
    assert json.loads(Path("files/export.json").read_text())["classes"] == IDS


def test_what_needs_no_names_asks_for_none(graphkd, home, teacher, tmp_path):
    for code in ("c0001", "c0002"):
        fill(tmp_path / "codes", code, 2)
    (tmp_path / "names.txt").write_text("c0001\tcat\nc0002\tdog\n")
    graphkd(f"embed --data codes --classes names.txt {teacher} --out kept")
    graphkd("store verify kept --data codes")
    graphkd(f"export {home}/run --formats safetensors --check codes --out files")


def test_a_folder_whose_name_is_no_utf8_is_named(graphkd, tmp_path):
    for name in ("cat", os.fsdecode(b"caf\xe9")):
        fill(tmp_path / "photos", name, 2)
    line = f"distill --data photos --method none --labels task --run own {SMALL}"
    graphkd.refused(line, r"class folders whose names are no UTF-8 text: 'caf\udce9'", "give them names in UTF-8")
    assert not Path("own").exists()


@pytest.mark.slow
def test_all_of_imagenets_ids(graphkd, scores, teacher, tmp_path):
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for wnid in imagenet_names():
            (tmp_path / "imagenet" / part / wnid).mkdir(parents=True)
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "imagenet" / part / wnid / "0.JPEG")
    line = f"distill --data imagenet {teacher} --store features {SMALL} --batch-size 64 --epochs 1 --json"
    for run in ("one", "two"):
        assert graphkd.json(f"{line} --run {run}")["images"] == 1000
    found, _ = scores("--model one --data imagenet/val")
    assert len(found) == 1000
    assert {"sunglasses (n04355933)", "sunglasses (n04356056)"} <= set(found)
