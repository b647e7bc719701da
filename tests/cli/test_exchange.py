"""graphkd store import and export, and training from what was imported."""

import shutil

import numpy as np
import pytest


@pytest.fixture
def vectors(class_folders, tmp_path):
    """Vectors of all images, by their paths below /photos."""
    names = sorted(each.relative_to(class_folders).as_posix() for each in class_folders.rglob("*.*"))
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(len(names), 8)).astype("float32"))
    (tmp_path / "n.txt").write_text("".join(f"/photos/{name}\n" for name in names))
    return "store import v.npy --names n.txt --relative-to /photos"


def test_there_and_back(graphkd, vectors):
    found = graphkd.json(f"{vectors} --out features")
    assert (found["samples"], found["embedding_dim"], found["form"]) == (60, 8, "matrix")
    assert "teacher kind" in graphkd("store info features").out
    graphkd("store verify features --data images")
    for form, files in (("npy", ["embedding.npy", "names.txt"]), ("parquet", ["vectors.parquet"])):
        assert graphkd.json(f"store export features --form {form} --out {form}")["files"] == files
        assert graphkd.json(f"store import {form} --out back-{form}")["samples"] == 60


@pytest.mark.parametrize(
    ("line", "what", "todo"),
    [
        ("store import absent --out features", "absent", "--path"),
        ("store import v.npy --out features", "cannot read the names of v.npy", "give a text file"),
        ("store import v.npy --names n.txt --relative-to /other --out features", "do not begin with /other/", "give"),
        ("store import n.txt --out features", "holds no vectors", "give such a folder"),
        ("store import empty --out features", "holds no vectors", "give such a folder"),
        ("store import v.npy --names n.txt --dtype float8 --out features", "float8", "--dtype"),
        ("store import v.npy --names n.txt --out images", "holds", "choose an empty folder"),
        ("store import v.npy --names n.txt --classes n.txt --out features", "nothing that scores them", "give proxies"),
        ("store export absent --out files", "absent is no store", "give"),
    ],
)
def test_wrong_input_takes_two_lines_and_leaves_nothing(graphkd, vectors, tmp_path, line, what, todo):
    (tmp_path / "empty").mkdir()
    graphkd.refused(line, what, todo)
    assert not (tmp_path / "features").exists()
    assert not (tmp_path / "files").exists()


def test_vectors_stand_in_for_a_teacher(graphkd, vectors):
    graphkd(f"{vectors} --out features")
    options = "--student resnet10t --size 32 --epochs 1 --batch-size 16 --device cpu --quiet --no-report --watch 4"
    found = graphkd.json(f"distill --data images --store features --method rkd --labels task {options} --run run")
    assert found["quality"] is None if "quality" in found else True
    assert "top1" in found
    line = f"distill --data images --store features {options} --run other"
    graphkd.refused(f"{line} --method prg", "prg compares class scores or proxies, and the store features", "rkd")


def test_images_without_a_vector_are_named(graphkd, vectors, class_folders):
    graphkd(f"{vectors} --out features")
    (class_folders / "one" / "new.png").write_bytes((class_folders / "one" / "1.png").read_bytes())
    line = "distill --data images --store features --method rkd --labels task --student resnet10t --size 32"
    graphkd.refused(f"{line} --run run --held-out 0", "features lacks 1 (one/new.png)", "choose another --store")


def test_an_export_that_cannot_be_written_leaves_nothing(graphkd, vectors, tmp_path, monkeypatch):
    graphkd(f"{vectors} --out features")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    graphkd.refused("store export features --out files", "No space left on device", "free some space")
    assert not [each.name for each in tmp_path.iterdir() if "files" in each.name]
    shutil.rmtree(tmp_path / "features")
