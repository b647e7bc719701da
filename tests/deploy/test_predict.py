"""Predictions: what is said of each image, files of every format, going on after a kill, class folders."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graphkd.data.folders import FlatFolderSource
from graphkd.data.transforms import CenterView
from graphkd.deploy.class_folders import ClassFolders
from graphkd.deploy.classifier import Classifier, predictions
from graphkd.deploy.journal import Journal
from graphkd.deploy.predict import finish, predict
from graphkd.errors import DataError, FileError, NonFiniteError, OptionError, ShapeError

NAMES = ["black", "grey", "white"]
ROOT = Path(__file__).parents[2]


def shades(images):
    """Scores by brightness: 0, 1/2 and 1 are sure."""
    mean = images.mean((1, 2, 3))
    return -40 * torch.stack([mean, (mean - 0.5).abs(), 1 - mean], dim=1)


CLASSIFIER = Classifier(shades, NAMES, CenterView(8), identity={"model": "shades"})


def paint(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    """Two black images of one name, two that are hard to tell, a white one, and one that cannot be read."""
    for name, shade in {"a/1.png": 0, "b/1.png": 0, "a/2.png": 64, "b/2.png": 192, "c.png": 255}.items():
        paint(tmp_path / "photos" / name, shade)
    (tmp_path / "photos" / "b" / "bad.png").write_text("no image")
    return FlatFolderSource(tmp_path / "photos")


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_confidences_by_hand():
    white = Classifier(lambda images: torch.tensor([[0.0, 1.0, 2.0]]).log(), NAMES, CenterView(8)).model
    values = torch.tensor([[1.0, 3.0, 4.0]]).log()
    asked = Classifier(lambda images: values, NAMES, CenterView(8))
    (found,) = predictions(asked, _one_image(), top=2)
    assert (found.classes, found.confidences) == (("white", "grey"), (0.5, 0.375))
    with pytest.raises(NonFiniteError, match="begins with 0 are not finite"):
        list(predictions(Classifier(white, NAMES, CenterView(8)), _one_image()))
    with pytest.raises(ShapeError, match="for 2 classes"):
        list(predictions(Classifier(lambda images: values, NAMES[:2], CenterView(8)), _one_image()))


def _one_image():
    from graphkd.data.sources import ArraySource

    return ArraySource(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_has_a_line_in_order_and_what_cannot_be_read_says_why(photos, tmp_path, workers):
    found = predict(CLASSIFIER, photos, tmp_path / "out.csv", top=9, batch_size=2, workers=workers)
    rows = table(tmp_path / "out.csv")
    assert list(rows[0]) == ["name", *(f"{n}{p}" for p in ("", "_2", "_3") for n in ("class", "confidence")), "error"]
    assert [row["name"] for row in rows] == list(photos.ids)
    assert {row["name"]: row["class"] for row in rows} == {
        "a/1.png": "black", "b/1.png": "black", "a/2.png": "grey", "b/2.png": "white", "b/bad.png": "", "c.png": "white",
    }  # fmt: skip
    (bad,) = [row["error"] for row in rows if row["error"]]
    assert "bad.png (its bytes are none of" in bad
    assert (found.images, found.unreadable, found.examples) == (6, 1, ["b/bad.png"])
    assert found.classes == {"black": 2, "grey": 1, "white": 2}
    sure = [float(row["confidence"]) for row in rows if row["confidence"]]
    assert found.confidence == pytest.approx(sum(sure) / 5)
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "photos"]


def test_an_unreadable_image_can_stop_and_a_whole_batch_of_them_does_not(photos, tmp_path):
    with pytest.raises(DataError, match=r"b/bad\.png"):
        predict(CLASSIFIER, photos, tmp_path / "out.csv", on_error="stop")
    assert not (tmp_path / "out.csv").exists()
    assert predict(CLASSIFIER, photos, tmp_path / "out.csv", batch_size=1).unreadable == 1


def test_no_readable_image_leaves_the_earlier_file_as_it_is(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_text("no image")
    (tmp_path / "out.csv").write_text("earlier")
    with pytest.raises(DataError, match=r"none of 1 images can be read, such as 1\.png"):
        predict(CLASSIFIER, FlatFolderSource(tmp_path / "bad"), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "earlier"
    paint(tmp_path / "bad" / "1.png", 0)
    found = predict(CLASSIFIER, FlatFolderSource(tmp_path / "bad"), tmp_path / "out.csv")
    assert found.classes == {"black": 1}


def test_json_lines_and_the_labels_of_fiftyone(photos, tmp_path):
    predict(CLASSIFIER, photos, tmp_path / "out.jsonl", top=2)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == list(photos.ids)
    assert rows[-1]["classes"] == ["white", "grey"]
    assert "error" in rows[-2]
    predict(CLASSIFIER, photos, tmp_path / "labels.json")
    found = json.loads((tmp_path / "labels.json").read_text())
    assert found["classes"] == NAMES
    assert found["labels"].keys() == {
        "a/1",
        "a/2",
        "b/1",
        "b/2",
        "c",
    }  # names without suffix, as FiftyOne looks them up
    assert found["labels"]["a/2"]["label"] == 1
    assert found["labels"]["c"] == {"label": 2, "confidence": rows[-1]["confidences"][0]}


def test_images_that_are_one_to_fiftyone_are_refused_before_the_first_is_read(photos, tmp_path):
    paint(tmp_path / "photos" / "a" / "1.jpg", 255)
    source = FlatFolderSource(tmp_path / "photos")
    with pytest.raises(DataError, match="a/1.jpg and a/1.png are one image to FiftyOne.*: name one of them otherwise"):
        predict(CLASSIFIER, source, tmp_path / "labels.json")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert predict(CLASSIFIER, source, tmp_path / "out.csv").images == 7


def test_parquet_says_what_csv_says(photos, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'graphkd[parquet]'")
    for name in ("out.parquet", "out.csv"):
        predict(CLASSIFIER, photos, tmp_path / name)
    found = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    rows = table(tmp_path / "out.csv")
    assert list(found) == list(rows[0])
    assert found["name"] == [row["name"] for row in rows]
    assert found["class"] == [row["class"] or None for row in rows]


def test_a_name_that_is_no_utf8_keeps_its_bytes(tmp_path):
    (tmp_path / "photos").mkdir()
    name = os.fsdecode(b"caf\xe9,\n.png")
    paint(tmp_path / "photos" / name, 0)
    predict(CLASSIFIER, FlatFolderSource(tmp_path / "photos"), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", errors="surrogateescape") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [name]
    predict(CLASSIFIER, FlatFolderSource(tmp_path / "photos"), tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_bytes())["name"] == name


def test_it_goes_on_after_its_last_whole_batch(photos, tmp_path):
    out, asked = tmp_path / "out.csv", []

    def dies(images):
        asked.append(len(images))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return shades(images)

    whole = predict(CLASSIFIER, photos, tmp_path / "whole.csv")
    with pytest.raises(KeyboardInterrupt):
        predict(Classifier(dies, NAMES, CenterView(8), identity=CLASSIFIER.identity), photos, out, batch_size=2)
    part = tmp_path / "out.csv.part"
    with part.open("ab") as file:
        file.write(b'{"name": "b/2.p')  # as a kill cuts a line
    assert Journal(out).images == 4
    shown = []
    counting = Classifier(
        lambda images: shown.append(len(images)) or shades(images), NAMES, CenterView(8), identity=CLASSIFIER.identity
    )
    assert predict(counting, photos, out, batch_size=3) == whole
    assert shown == [2]  # three of six were kept; of the other three one cannot be read
    assert out.read_text() == (tmp_path / "whole.csv").read_text()
    assert not part.exists()


def test_a_journal_of_other_predictions_is_refused(photos, tmp_path):
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    Journal(out).begin({"model": "another", "top": 3}, 2)
    with pytest.raises(FileError, match="was begun with other model and classes and root and images: remove it"):
        predict(CLASSIFIER, photos, out)
    part.write_text("notes of mine\n")
    with pytest.raises(FileError, match="is no journal of predictions: remove it"):
        predict(CLASSIFIER, photos, out)
    assert part.read_text() == "notes of mine\n"


def test_a_full_disk_at_the_first_line_leaves_nothing_and_later_whole_lines(photos, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FileError, match="No space left on device"):
            predict(CLASSIFIER, photos, out)
        assert os.listdir(tmp_path) == ["photos"]
    Journal(out).begin({}, 1)
    journal = Journal(out)

    def rows():
        yield from predictions(CLASSIFIER, _one_image())
        assert Journal(out).images == 1
        yield from predictions(CLASSIFIER, _one_image())

    journal.write(rows())
    assert Journal(out).images == 2


def test_a_file_says_its_format(photos, tmp_path):
    with pytest.raises(OptionError, match=r"give a name that ends in \.csv"):
        predict(CLASSIFIER, photos, tmp_path / "out.xls")
    with pytest.raises(OptionError, match="unknown format 'cvs'; did you mean 'csv'"):
        predict(CLASSIFIER, photos, tmp_path / "out", format="cvs")
    predict(CLASSIFIER, photos, tmp_path / "out", format="csv")
    assert table(tmp_path / "out")[0]["class"] == "black"


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_copies_keep_their_paths_and_the_uncertain_stay(photos, tmp_path):
    found = predict(CLASSIFIER, photos, tmp_path / "out.csv", folders=ClassFolders(tmp_path / "sorted", above=0.9))
    assert tree(tmp_path / "sorted") == {"black/a/1.png", "black/b/1.png", "white/c.png"}
    assert len(tree(tmp_path / "photos")) == 6
    assert found.placed.placed == {"black": 2, "white": 1}
    assert found.placed.uncertain == 2


def test_no_file_is_overwritten(photos, tmp_path):
    paint(tmp_path / "sorted" / "white" / "c.png", 7)
    mine = (tmp_path / "sorted" / "white" / "c.png").read_bytes()
    for move in (False, True):
        found = predict(CLASSIFIER, photos, tmp_path / f"{move}.csv", folders=ClassFolders(tmp_path / "sorted", move))
        assert found.placed.in_the_way == ["c.png"]
    assert (tmp_path / "sorted" / "white" / "c.png").read_bytes() == mine
    assert tree(tmp_path / "photos") == {"b/bad.png", "c.png"}


def test_an_image_that_lies_in_its_place_is_kept(photos, tmp_path):
    paint(tmp_path / "home" / "white" / "1.png", 255)
    source = FlatFolderSource(tmp_path / "home" / "white")
    os.link(tmp_path / "home" / "white" / "1.png", tmp_path / "second_name.png")
    found = predict(CLASSIFIER, source, tmp_path / "out.csv", folders=ClassFolders(tmp_path / "home", move=True))
    assert found.placed.placed == {"white": 1}
    assert tree(tmp_path / "home") == {"white/1.png"}


def test_a_second_move_keeps_the_record_of_the_first(photos, tmp_path):
    out, folders = tmp_path / "out.csv", ClassFolders(tmp_path / "sorted", move=True, above=0.9)
    predict(CLASSIFIER, photos, out, folders=folders)
    before, rest = out.read_text(), FlatFolderSource(tmp_path / "photos")
    with pytest.raises(FileError, match="all that tells of images that were moved before: choose another file"):
        predict(CLASSIFIER, rest, out, folders=ClassFolders(tmp_path / "again", move=True))
    assert out.read_text() == before
    assert not (tmp_path / "out.csv.part").exists()
    assert len(tree(tmp_path / "photos")) == 3


def test_a_move_goes_on_where_it_was_killed(photos, tmp_path, monkeypatch):
    out, folders, unlink = tmp_path / "out.csv", ClassFolders(tmp_path / "sorted", move=True), Path.unlink

    def killed(path, missing_ok=False):
        if path.name == "1.png":
            raise KeyboardInterrupt  # the image has its second name, and keeps the first
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            predict(CLASSIFIER, photos, out, folders=folders)
    assert out.exists()
    root = tmp_path / "photos"
    assert finish(CLASSIFIER, root, tmp_path / "other.csv", folders=folders) is None
    another = Classifier(shades, NAMES, CenterView(8), identity={"model": "another"})
    with pytest.raises(FileError, match="was begun with other model and top and root: remove it"):
        finish(another, tmp_path, out, top=1, folders=folders)
    found = finish(CLASSIFIER, root, out, folders=folders)
    assert (found.placed.placed.total(), found.placed.in_the_way, found.placed.missing) == (5, [], [])
    assert tree(tmp_path / "photos") == {"b/bad.png"}
    assert len(tree(tmp_path / "sorted")) == 5
    assert not (tmp_path / "out.csv.part").exists()


def test_class_names_do_not_lead_out_of_the_folder(tmp_path):
    names = ClassFolders(tmp_path).names(["../up", "a/b", ".hidden"])
    assert names == {"../up": "__up", "a/b": "a_b", ".hidden": "_hidden"}
    assert ClassFolders(tmp_path).names({"n01": "cat", "n02": "cat"}) == {"cat (n01)": "n01", "cat (n02)": "n02"}
    with pytest.raises(OptionError, match="several classes would share the folder 'a_b'"):
        ClassFolders(tmp_path).names(["a/b", "a_b"])


def test_only_files_can_be_put_into_folders(tmp_path):
    with pytest.raises(OptionError, match="only images that are files"):
        predict(CLASSIFIER, _one_image(), tmp_path / "out.csv", folders=ClassFolders(tmp_path / "sorted"))


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/kernels"]
from tests.deploy.test_predict import *
def slow(images):
    print("begun", flush=True)
    time.sleep(0.02)
    return shades(images)
asked = Classifier(slow, NAMES, CenterView(8), identity=CLASSIFIER.identity)
predict(asked, FlatFolderSource("photos"), Path("out.csv"), batch_size=4)
"""


@pytest.mark.slow
def test_killed_again_and_again_no_line_is_lost_or_doubled(tmp_path):
    for at in range(200):
        paint(tmp_path / "photos" / f"{at}.png", at % 256)
    code = KILLED.format(root=str(ROOT))
    kills = 0
    for _ in range(20):
        run = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
        run.stdout.readline()
        try:
            assert run.wait(timeout=0.3) == 0
            break
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            kills += 1
    assert kills > 0
    predict(CLASSIFIER, FlatFolderSource(tmp_path / "photos"), tmp_path / "whole.csv")
    assert (tmp_path / "out.csv").read_text() == (tmp_path / "whole.csv").read_text()
