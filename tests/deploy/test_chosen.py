"""Files of what was chosen from a pool: lists, tables and folders, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from graphkd.data.pool import PoolScores
from graphkd.data.selection import select
from graphkd.data.sources import FileSource
from graphkd.deploy.chosen import write_chosen, write_folder
from graphkd.errors import DataError, FileError, OptionError
from tests.data.store.fakes import squares


def pool(*names):
    """Scores of that many images, the first one the best."""
    p = np.linspace(0.9, 0.6, len(names))
    return PoolScores(np.zeros(len(names), int), np.log(p), 2 * p - 1, 1 - p, names, 2, ["cat", "dog"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images in two folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "b/1.png", "2.png"):
        path = Path("pool", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return FileSource("pool", ["a/1.png", "b/1.png", "2.png"])


def test_a_list_has_paths_of_files_and_names_of_others(folder):
    scores = pool(*folder.ids)
    write_chosen(Path("list.txt"), scores, select(scores, 2), folder)
    assert Path("list.txt").read_text() == "pool/a/1.png\npool/b/1.png\n"
    write_chosen(Path("list.txt"), scores, select(scores, 2), squares(3))
    assert Path("list.txt").read_text() == "a/1.png\nb/1.png\n"


def test_a_table_of_every_image_as_parquet(folder):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'graphkd[parquet]'")
    scores = pool(*folder.ids)
    write_chosen(Path("all.parquet"), scores, select(scores, 1, score="margin"), folder)
    rows = parquet.read_table("all.parquet").to_pylist()
    assert [(row["name"], row["class"], row["kept"]) for row in rows] == [
        ("a/1.png", "cat", True),
        ("b/1.png", "cat", False),
        ("2.png", "cat", False),
    ]
    assert rows[0]["score"] == pytest.approx(0.8)


def test_a_folder_keeps_the_paths_and_is_whole_or_not_there(folder):
    scores = pool(*folder.ids)
    write_folder(Path("few"), select(scores, 2), folder)
    assert sorted(path.read_text() for path in Path("few").rglob("*.png")) == ["a/1.png", "b/1.png"]
    with pytest.raises(FileError, match="few holds something already"):
        write_folder(Path("few"), select(scores, 2), folder)
    Path("pool/b/1.png").unlink()
    with pytest.raises(FileError, match="cannot write more: No such file or directory. Nothing was placed"):
        write_folder(Path("more"), select(scores, 2), folder, copy=True)
    with pytest.raises(OptionError, match="only images that are files can be put into a folder"):
        write_folder(Path("more"), select(scores, 2), squares(3))
    assert sorted(path.name for path in Path().iterdir()) == ["few", "pool"]


@pytest.mark.parametrize("name", ["two\nlines.png", " begins with a space.png"])
def test_a_name_that_no_list_can_hold(folder, name):
    scores = pool(name)
    with pytest.raises(DataError, match="does not fit on a line: rename the image, or write a table"):
        write_chosen(Path("list.txt"), scores, select(scores, 1))
    with pytest.raises(OptionError, match="does not say what format it has: give a name that ends in .txt, .csv"):
        write_chosen(Path("list.doc"), scores, select(scores, 1))
    assert not Path("list.txt").exists()
