"""Files that are whole or not there, folders with one writer, and nobody who writes in another way."""

import ast
import errno
import multiprocessing
import os
import re
import signal
import threading
import time
from pathlib import Path

import filelock
import pytest

from graphkd.errors import FileError, LockedError
from graphkd.files import one_writer, remove, remove_leftovers, temporary_name, write_file, write_json

ROOT = Path(__file__).parents[1] / "graphkd"


@pytest.mark.parametrize("content", ["é", "é".encode(), lambda path: path.write_text("é", encoding="utf-8")])
def test_text_bytes_and_a_library_write_the_same_file(tmp_path, content):
    write_file(tmp_path / "new" / "name", content)
    assert (tmp_path / "new" / "name").read_bytes() == b"\xc3\xa9"
    assert os.listdir(tmp_path / "new") == ["name"]


def test_a_link_under_the_final_name_is_replaced_and_not_followed(tmp_path):
    outside, path = tmp_path / "outside", tmp_path / "run" / "config.json"
    outside.write_text("mine")
    path.parent.mkdir()
    path.symlink_to(outside)
    write_json(path, {"a": 1})
    assert outside.read_text() == "mine"
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert not path.is_symlink()


def test_no_temporary_name_can_be_foreseen_and_what_is_there_is_not_written_to(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    assert len({temporary_name(path) for _ in range(100)}) == 100
    waiting, outside = tmp_path / ".config.json.000000000000.tmp", tmp_path / "outside"
    outside.write_text("mine")
    waiting.symlink_to(outside)
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    with pytest.raises(FileError, match=r"cannot write .*config\.json: File exists\. What was finished is kept: free"):
        write_file(path, "theirs")
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_broken_write_leaves_the_old_file_and_no_other(tmp_path, error):
    def full(path):
        path.write_bytes(b"half")
        raise error

    write_file(tmp_path / "name", "old")
    with pytest.raises((FileError, KeyboardInterrupt)):
        write_file(tmp_path / "name", full)
    assert (tmp_path / "name").read_text() == "old"
    assert os.listdir(tmp_path) == ["name"]


def test_leftovers_are_known_by_the_names_they_were_to_get(tmp_path):
    for name in (".a.json.0123456789ab.tmp", ".b.json.0123456789ab.tmp", ".a.json.tmp", "a.json"):
        (tmp_path / name).touch()
    (tmp_path / ".update-00000007.0123456789ab.tmp").mkdir()
    remove_leftovers(tmp_path, "a.json", "update-*")
    assert sorted(os.listdir(tmp_path)) == [".a.json.tmp", ".b.json.0123456789ab.tmp", "a.json"]


def test_removing_a_link_leaves_what_it_points_to(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == ["file"]


# one writer


def attempt(folder, said):
    try:
        with one_writer(folder):
            said.append("written")
    except LockedError as error:
        said.append(str(error))


def in_a_thread(folder):
    said = []
    thread = threading.Thread(target=attempt, args=(folder, said))
    thread.start()
    thread.join()
    return said[0]


def test_the_second_writer_is_told_who_is_the_first(tmp_path):
    with one_writer(tmp_path), one_writer(tmp_path):  # within one thread it is one writer
        said = in_a_thread(tmp_path)
    who = rf"process {os.getpid()} on \S+ since \d{{4}}-\d\d-\d\dT\S+"
    assert re.search(rf"is being written by {who}: let it end, or choose another folder$", said)
    assert in_a_thread(tmp_path) == "written"
    assert os.listdir(tmp_path) == []


def hold(folder):
    with one_writer(folder):
        if os.fork() == 0:  # as a loader's worker, which may live on for seconds
            time.sleep(5)
            os._exit(0)
        (folder / "held").touch()
        time.sleep(60)


def test_a_killed_writer_keeps_nobody_out_even_if_its_workers_live_on(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    assert f"process {process.pid} " in in_a_thread(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert in_a_thread(tmp_path) == "written"


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    outside, lock = tmp_path / "outside", tmp_path / ".writer.lock"
    outside.write_text("mine")
    lock.symlink_to(outside)
    with pytest.raises(FileError, match=r"\.writer\.lock is a link, .*: remove it and run again"), one_writer(tmp_path):
        pass
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(FileError, match=r"\.writer\.lock is no regular file, "), one_writer(tmp_path):
        pass
    lock.unlink()
    lock.hardlink_to(outside)
    with one_writer(tmp_path):
        assert "is being written by" in in_a_thread(tmp_path)
    assert outside.read_text() == "mine"


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def refuse(lock):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    with one_writer(tmp_path):
        pass
    assert "has no locks: let no other process write there" in caplog.text


# nobody else writes

WRITERS = {"write_text", "write_bytes", "savefig", "save_file", "save_model", "rename", "mkstemp", "NamedTemporaryFile"}
ALLOWED = {  # calls that write into a new name of their own, into memory, or at the end of a log
    "files.py": {"open:xb", "os.replace", "os.rename"},
    "data/pool.py": {"open:ab"},  # a journal
    "data/store/exports.py": {"open:wb", "write_text", "replace"},  # in a temporary folder, which is renamed
    "deploy/chosen.py": {"open:w", "write_text", "os.replace"},  # likewise
    "training/checkpoint.py": {"save_file", "os.rename"},
    "training/run_folder.py": {"open:a"},
    "deploy/journal.py": {"open:ab"},
    "deploy/tables.py": {"open:w"},  # of a temporary name that `predict` gives
    "integrations/named_losses.py": {"save_model"},
    "pictures/canvas.py": {"savefig"},
    "teachers/openclip.py": {"save_file"},  # in a temporary folder
}


def writes(path):
    """Calls in a file that put something on the disk, as far as their names tell."""
    for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
        whole = ast.unparse(call.func)
        name = whole.rpartition(".")[2]
        if name == "open":
            modes = [each.value for each in call.args if isinstance(each, ast.Constant)]
            yield from (f"open:{mode}" for mode in modes if str(mode)[:1] in ("w", "a", "x"))
        elif whole in ("os.replace", "os.rename"):
            yield whole
        elif name in WRITERS or (name == "replace" and "." in whole and len(call.args) == 1 and not call.keywords):
            yield name  # a path's own replace() has one argument, a text's has two


def test_files_are_written_in_one_way():
    found = {str(path.relative_to(ROOT)): set(writes(path)) for path in ROOT.rglob("*.py")}
    assert {name: calls for name, calls in found.items() if calls} == ALLOWED
