"""Text of others: shown so that it does nothing, and read within bounds."""

import logging
import os
import re
from pathlib import Path

import pytest

from graphkd.errors import DataError
from graphkd.text import in_markdown, look_alikes, numbers, read_json, read_text, shown

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("text", "expected"), [
    ("cat", "cat"), ("Ähre 猫 🐈", "Ähre 猫 🐈"), ("a\\b", "a\\b"),
    ("\x1b[2J", r"\x1b[2J"), ("\x9b2J", r"\x9b2J"), ("\x7f\0\r", r"\x7f\x00\r"), ("a\nb\tc", r"a\nb\tc"),
    ("\u202egnp.tac", r"\u202egnp.tac"), ("\u2066a\u2069", r"\u2066a\u2069"), ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
    ("\u2028", r"\u2028"), ("\U000e0041", r"\U000e0041"), ("caf\udce9", r"caf\udce9"),
])  # fmt: skip
def test_what_has_no_look_is_written_as_python_writes_it(text, expected):
    assert shown(text) == expected
    assert shown(expected) == expected


def test_what_is_kept_stays():
    assert shown("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_an_error_is_shown_safely_wherever_it_is_printed():
    assert str(DataError("no image in cat\x1b]0;title\x07\nOriginal Traceback")) == (
        "no image in cat\\x1b]0;title\\x07\nOriginal Traceback"
    )


def test_a_log_is_shown_safely_whatever_its_handlers_are(caplog):
    logging.getLogger("graphkd").warning("left out %s", "a\x1b[2J\nforged line")
    assert caplog.messages == [r"left out a\x1b[2J\nforged line"]


def test_the_library_has_one_log():
    named = [
        path.name
        for path in (ROOT / "graphkd").rglob("*.py")
        if re.search(r"getLogger\((?!\"graphkd\"\))", path.read_text()) and path.name not in ("main.py", "int8.py")
    ]
    assert named == []  # those two quieten other libraries' logs


@pytest.mark.parametrize(("name", "expected"), [
    ("a | b", r"a \| b"), ("<b>&", "&lt;b&gt;&amp;"), ("[x](http://y)", r"\[x\](http://y)"), ("a\\|b", r"a\\\|b"),
    ("`code`", r"\`code\`"), ("a\n| b", r"a\\n\| b"), ("![x](y)", r"!\[x\](y)"),
])  # fmt: skip
def test_markdown_shows_a_name_as_it_is(name, expected):
    assert in_markdown(name) == expected


def test_names_that_look_alike_are_told_apart_by_their_code_points():
    assert (
        look_alikes(["dog", "caf\xe9"], ["cafe\u0301"]) == r" ('caf\xe9' looks like 'cafe\u0301' and is another name)"
    )
    assert look_alikes(["\uff43at"], ["cat"]) == r" ('\uff43at' looks like 'cat' and is another name)"
    assert look_alikes(["cat"], ["cat", "dog"]) == ""
    assert look_alikes([], ["cat"]) == ""


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfcat\n")
    assert read_text(tmp_path / "names.txt") == "cat\n"


@pytest.mark.parametrize(("data", "problem"), [
    (b"123456789", "it has 9 bytes, at most 8 are read"), (b"\xff", "utf-8"), (b"[" * 8, "Expecting value"),
])  # fmt: skip
def test_files_that_are_not_read(tmp_path, data, problem):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=problem):
        read_json(tmp_path / "file", limit=8)


def test_deep_json_is_an_error_like_any_other(tmp_path):
    (tmp_path / "file").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "file")
    (tmp_path / "file").write_text('{"a":' * 101 + "1" + "}" * 101)
    with pytest.raises(ValueError, match="nested more than 100 levels deep"):
        read_json(tmp_path / "file")
    (tmp_path / "file").write_text("[" * 100 + "]" * 100)
    assert str(read_json(tmp_path / "file")) == "[" * 100 + "]" * 100


@pytest.mark.parametrize(("values", "problem"), [
    ([1], "no mapping"), ({"a": 1}, "it lacks b"), ({"a": "1", "b": 1}, "a is no number"), ({"b": True}, "b is no"),
    ({"b": None}, "b is no"), ({"b": 10**400}, "b is no"), ({"b": [1]}, "b is no"),
])  # fmt: skip
def test_what_is_no_mapping_of_numbers_is_refused(values, problem):
    with pytest.raises(ValueError, match=problem):
        numbers(values, ["b"])
    assert numbers({"b": -1, "c": float("inf")}, ["b"]) == {"b": -1, "c": float("inf")}


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_text(tmp_path / "pipe")
