"""Windows and macOS, as far as Linux can tell: what only POSIX has is asked for before it is used."""

import ast
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from graphkd.data.folders import open_folder
from graphkd.data.transforms import CenterView
from graphkd.data.views import Views, ignore_group_signals
from graphkd.files import one_writer, write_file
from graphkd.text import read_text

ROOT = Path(__file__).parents[1]
POSIX = (  # names of os that Windows lacks
    "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fork", "getloadavg", "getpgid", "getuid", "killpg",
    "mkfifo", "nice", "posix_fadvise", "pread", "pwrite", "sched_getaffinity", "setpgid", "setsid", "statvfs", "sync",
    "uname", "wait",
)  # fmt: skip
MODULES = {"fcntl", "grp", "pwd", "resource", "termios"}


@pytest.fixture
def windows(tmp_path, monkeypatch):
    """The names are gone, and no folder can be opened."""
    opened = os.open

    def open_file(path, flags, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *rest, **options)

    for name in POSIX:
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr("graphkd.files.sys", SimpleNamespace(platform="win32"))  # filelock goes on with POSIX's locks


def test_files_are_written_whole_and_read(windows, tmp_path):
    write_file(tmp_path / "new" / "a.txt", "text")
    assert read_text(tmp_path / "new" / "a.txt") == "text"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_folder_has_one_writer(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "O_NONBLOCK", 0, raising=False)  # which they need
    with one_writer(tmp_path):
        assert (tmp_path / ".writer.lock").read_text().startswith(f"process {os.getpid()} on ")
    with one_writer(tmp_path):  # the file of the first lock is in nobody's way
        pass


def test_images_are_loaded(windows, tmp_path):
    for number in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    ignore_group_signals(0)
    batch = next(iter(Views(open_folder(tmp_path, layout="flat"), student=CenterView(8)).loader(2)))
    assert batch.student.shape == (2, 3, 8, 8)


def unguarded(path):
    """Names that a file uses and that Windows lacks, but for those that it asks for by ``hasattr``."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    used = {ast.unparse(node).removeprefix("os.") for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {name for name in used & set(POSIX) if f'hasattr(os, "{name}")' not in text}


def test_nothing_that_windows_lacks_is_used_unasked():
    files = [path for folder in ("graphkd", "kernels/graphkd_kernels") for path in (ROOT / folder).rglob("*.py")]
    assert {str(path): found for path in files if (found := unguarded(path))} == {}


def test_modules_that_windows_lacks_are_imported_where_their_absence_is_caught():
    for path in (ROOT / "graphkd").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        caught = {id(node) for each in ast.walk(tree) if isinstance(each, ast.Try) for node in ast.walk(each)}
        named = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Import) and MODULES & {each.name for each in node.names}
        ]
        assert [node.lineno for node in named if id(node) not in caught] == [], path
