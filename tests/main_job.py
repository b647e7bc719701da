"""Real digits as PNG files, and a stand-in teacher trained for an instant."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def digits():
    from graphkd.data.datasets import digits_source

    return digits_source()


@pytest.fixture(scope="session")
def teacher_checkpoint(tmp_path_factory, digits):
    """Path of an open_clip checkpoint with its configuration beside it; two epochs, so it knows little."""
    from stand_in_teacher import train_stand_in

    from graphkd.data.sources import source_subset

    folder = tmp_path_factory.mktemp("teacher")
    return train_stand_in(source_subset(digits, range(256)), ["a {}.", "the {}."], folder, seed=0, epochs=2)[1]


@pytest.fixture
def class_folders(tmp_path, digits):
    """Five class folders with twelve PNG or JPEG images each."""
    root = tmp_path / "images"
    for label, name in enumerate(digits.classes[:5]):
        (root / name).mkdir(parents=True)
        members = [i for i in range(400) if digits.target(i) == label][:12]
        for number, index in enumerate(members):
            suffix = "png" if number % 2 else "jpg"
            digits.image(index).resize((40, 36)).save(root / name / f"{number}.{suffix}")
    return root


@pytest.fixture
def flat_folder(tmp_path, class_folders):
    """The same images loose in one folder, and a file of class names."""
    root, names = tmp_path / "loose", tmp_path / "names.txt"
    root.mkdir()
    for path in sorted(class_folders.rglob("*.*")):
        (root / f"{path.parent.name}_{path.name}").write_bytes(path.read_bytes())
    names.write_text("\n".join(sorted(each.name for each in class_folders.iterdir())))
    return root, names


@pytest.fixture
def run_job(monkeypatch, capsys, tmp_path):
    """Run the example with these arguments, with its pictures or without, and return what it printed."""
    import imagenet_prg

    def run(*arguments: str | Path, drawn: bool = False) -> str:
        if not drawn:  # pictures take longer than the rest
            monkeypatch.setattr(imagenet_prg, "missing", lambda: ["matplotlib"])
        small = ["--quiet", "--size", "32", "--epochs", "2", "--batch", "16", "--student", "test_efficientnet"]
        monkeypatch.setattr(sys, "argv", ["imagenet_prg.py", *small, *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        imagenet_prg.main()
        return capsys.readouterr().out

    return run
