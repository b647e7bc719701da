"""``~`` in a path is what it is in the shell, wherever the library takes a path."""

import ast
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from graphkd import EmbeddingStore, open_folder
from graphkd.data.class_names import read_class_names
from graphkd.data.selection import Selection, score_pool, select
from graphkd.data.store.embed import embed
from graphkd.data.store.tools import info, verify
from graphkd.files import local_path
from graphkd.models.weights import read_weights
from graphkd.pictures.canvas import canvas, save_picture
from graphkd.training.checkpoint import student_weights
from tests.data.store.fakes import TinyTeacher, ToTensor, squares
from tests.training import tiny

ROOT = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "home"
    assert not (tmp_path / "~").exists()  # what a forgotten expansion leaves behind


def test_only_a_tilde_at_the_start_means_home(home):
    assert local_path("~/a") == home / "a"
    assert local_path(Path("~")) == home
    assert local_path("a/~") == Path("a/~")
    assert local_path("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")  # as the shell leaves it


def test_files_that_are_read(home):
    for name in ("cat", "dog"):
        (home / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(home / "photos" / name / "0.png")
    (home / "names.txt").write_text("cat\ndog\n")
    save_file({"head.weight": torch.ones(2, 2)}, home / "weights.safetensors")
    source = open_folder("~/photos")
    assert source.image(1).size == (4, 4)
    assert read_class_names("~/names.txt") == ["cat", "dog"]
    assert set(read_weights("~/weights.safetensors")) == {"head.weight"}


def test_a_store_and_a_selection(home):
    teacher, source = TinyTeacher(), squares(6)
    embed(teacher, source, "~/store", transform=ToTensor(), progress=False)
    assert len(EmbeddingStore("~/store")) == 6
    assert info("~/store")["samples"] == 6
    assert not verify("~/store")
    chosen = select(score_pool(teacher, source, transform=ToTensor()), 3)
    chosen.save("~/chosen")
    assert Selection.load("~/chosen").indices.tolist() == chosen.indices.tolist()


def test_a_run_and_a_picture(home):
    result = tiny.trainer("~/run", epochs=1, trackers=("tensorboard",)).fit()
    assert result.run == home / "run"
    assert "head.weight" in student_weights("~/run")
    figure, _ = canvas(2, 2)
    assert save_picture(figure, "~/picture.png") == home / "picture.png"


def _bare_paths(tree):
    """Calls of ``Path`` on an argument that may be a string: a ``~`` in it would stay one."""
    for function in (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        given = {f"Path({each.arg})" for each in arguments if each.annotation and "str" in ast.unparse(each.annotation)}
        calls = {ast.unparse(each) for each in ast.walk(function) if isinstance(each, ast.Call)}
        yield from (f"{function.name}: {call}" for call in sorted(given & calls))


def test_no_function_makes_a_path_of_a_string_by_itself():
    found = [
        f"{path.relative_to(ROOT)} {bare}"
        for path in sorted((ROOT / "graphkd").rglob("*.py"))
        for bare in _bare_paths(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []
    assert list(_bare_paths(ast.parse("def f(x: str | Path):\n    return Path(x)"))) == ["f: Path(x)"]
