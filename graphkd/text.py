"""Untrusted text: read within bounds, and shown so that it cannot act on what shows it."""

import html
import json
import logging
import os
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any, Final
from unicodedata import normalize

LIMIT: Final = 1 << 22  # bytes of a list of names, of prompts, or of a description
_DEEPEST: Final = 100  # levels of lists and mappings in JSON; whoever walks through them may do so by recursion
_MARKDOWN: Final = str.maketrans({each: f"\\{each}" for each in "\\`[]|"})


def shown(text: object, keep: str = "") -> str:
    r"""Text that is safe to show: each character that cannot be printed is written as its Python escape.

    These are control characters (and with them a terminal's escape sequences), marks that change the direction of
    writing, characters of no width, and lone surrogates, which stand for the bytes of a name that is not UTF-8.

    Args:
        text: of any kind; what is shown already stays as it is.
        keep: characters that are left alone, such as line breaks.

    Example: ``shown("cat\x1b[2J\u202e")`` is ``r"cat\x1b[2J\u202e"``
    """
    whole = str(text)
    if whole.isprintable():
        return whole
    return "".join(each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in whole)


def in_markdown(text: object) -> str:
    """A name escaped for Markdown: it makes no tag, no link, no code and no new table cell."""
    return html.escape(shown(text), quote=False).translate(_MARKDOWN)


def look_alikes(names: Iterable[str], others: Iterable[str]) -> str:
    r"""A hint for a message about missing names: the code points of one that looks like another name; else nothing.

    Example: ``look_alikes(["\xe9"], ["e\u0301"])`` is ``r" ('\xe9' looks like 'e\u0301' and is another name)"``
    """
    known = {normalize("NFKC", other): other for other in others}
    pairs = ((name, known.get(normalize("NFKC", name), name)) for name in names)
    first = next((pair for pair in pairs if pair[0] != pair[1]), None)
    return "" if first is None else f" ({first[0]!a} looks like {first[1]!a} and is another name)"


def _show(record: logging.LogRecord) -> bool:
    """Let a record of the log through, its message as :func:`shown`."""
    record.msg, record.args = shown(record.getMessage()), None
    return True


logging.getLogger("graphkd").addFilter(_show)  # the one log of the library, whatever handlers it is given


def regular_size(path: Path) -> int:
    """Bytes of a regular file. Raises: OSError for anything else: a pipe blocks its reader, a device never ends."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    return found.st_size


def open_regular(path: Path) -> BufferedReader:
    """A regular file, open to read. Raises: OSError for one that is not there or anything else."""
    regular_size(path)  # before it is opened: opening alone can set a device going
    at_once = getattr(os, "O_NONBLOCK", 0)  # Windows has none
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | at_once))


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a file.

    Raises: OSError as :func:`open_regular`; ValueError for one of more than ``limit`` bytes.
    """
    size = regular_size(path)
    if size > limit:
        raise ValueError(f"it has {size} bytes, at most {limit} are read")
    with open_regular(path) as file:
        return file.read(limit)


def read_text(path: Path, limit: int = LIMIT) -> str:
    """A file of UTF-8, with or without a byte order mark. Raises: as :func:`read_bytes`; ValueError for other bytes."""
    return read_bytes(path, limit).decode("utf-8-sig")


def read_json(path: Path, limit: int = LIMIT) -> Any:
    """A file of JSON. Raises: as :func:`read_text`; ValueError for what is no JSON or too deep."""
    return parse_json(read_text(path, limit))


def parse_json(text: str | bytes) -> Any:
    """Untrusted JSON. Raises: ValueError for what is no JSON or too deep."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [found]
    for _ in range(_DEEPEST):
        level = [each for whole in level for each in _inside(whole) if isinstance(each, dict | list)]
        if not level:
            return found
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _inside(whole: Any) -> Iterable[Any]:
    return whole.values() if isinstance(whole, dict) else whole if isinstance(whole, list) else ()


def numbers(values: Any, needed: Iterable[str] = ()) -> dict[str, Any]:
    """A mapping from names to numbers, as it came out of JSON.

    Args:
        needed: names that must be there.

    Raises: ValueError for anything else, and for a number that no float can hold.
    """
    if not isinstance(values, dict):
        raise ValueError("it is no mapping from names to numbers")
    if missing := [name for name in needed if name not in values]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    for name, value in values.items():
        if type(value) not in (int, float) or (type(value) is int and value.bit_length() > 1000):
            raise ValueError(f"{name} is no number that can be shown")
    return values
