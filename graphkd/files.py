"""Paths that users give, files that are there whole or not at all, and folders that one process writes at a time."""

import errno
import json
import logging
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from graphkd.errors import FileError, LockedError
from graphkd.text import read_text

log = logging.getLogger("graphkd")

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{12}\.tmp")
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_SIGNATURE = 1 << 10  # bytes at most of what a holder writes of itself
_PATIENCE = 0.5  # seconds; a lock whose file its last holder has just removed is free at the next try


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path as the shell reads it: ``~`` at its start is the home directory, that of a user after ``~name``.

    Example: ``local_path("~/photos")``
    """
    return Path(os.path.expanduser(path))


@contextmanager
def writing(path: Path, kept: str = "What was finished is kept", again: str = "run again") -> Iterator[None]:
    """Inside, a file that cannot be written becomes an error that says what is left.

    Args:
        path: what is being written.
        kept: what holds all the same.
        again: how to go on.

    Raises: FileError.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = f"free some space or choose a folder that can be written, and {again}"
        raise FileError(f"cannot write {path}: {reason}. {kept}: {remedy}") from error


def temporary_name(path: Path) -> Path:
    """A new name beside a path, drawn at random: nothing waits there, and two writers never meet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def write_file(path: Path, content: bytes | str | Callable[[Path], Any]) -> None:
    """Write a new file, flush it to the disk, give it its name: a reader sees the old file or the whole new one.

    A link under the final name is replaced, never followed.

    Args:
        path: its folder is made if it is absent.
        content: bytes, a text, or a function that writes to the path it is given, for libraries that write themselves.

    Raises: FileError where the disk is full or the folder cannot be written; the old file stays.
    """
    temporary = temporary_name(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                if not callable(content):
                    file.write(content.encode() if isinstance(content, str) else content)
            if callable(content):
                content(temporary)
            flush(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush(path.parent)  # the new name itself must survive a power cut


def write_json(path: Path, data: Any) -> None:
    """JSON to a file, whole or not at all; ASCII holds names that are not UTF-8, too. Raises: FileError."""
    write_file(path, json.dumps(data, indent=1) + "\n")


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk. On Windows only files can be flushed, by a handle that writes."""
    windows = sys.platform == "win32"
    if windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it points to) or a whole folder; nothing is fine too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_file(path: Path, target: Path) -> None:
    """A second name for a file; a copy where the file system has no such thing, or it is another one."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:
        copy_file(path, target)


def copy_file(path: Path, target: Path) -> None:
    """A copy that is there whole or not at all."""
    temporary = temporary_name(target)
    try:
        shutil.copy2(path, temporary)
        flush(temporary)
        with suppress(OSError):
            os.link(temporary, target)  # unlike a renaming, this never replaces a file
            return
        if target.exists():
            raise FileExistsError(f"{target} has just been made by another program")
        os.rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *names: str) -> None:
    """Remove what a killed process left half written under these names. Only a folder's one writer may ask for it.

    Args:
        names: of the whole files and folders; ``*`` and ``[0-9]`` stand for what they do in a shell.
    """
    for path in folder.glob(".*.tmp"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and any(fnmatchcase(found[1], name) for name in names):
            remove(path)


@contextmanager
def one_writer(folder: Path, part: str = "writer") -> Iterator[None]:
    """Keep other processes and threads from writing a folder; whoever reads it is kept from nothing.

    The operating system gives the lock back when the process ends, after a SIGKILL too. A thread may take it again.
    Where the file system has no locks, a warning says so and nothing is kept out.

    Args:
        folder: made if it is absent.
        part: of the folder that is written, where several processes share it.

    Raises: LockedError that names who writes; FileError where the folder cannot be written, or a link or anything else
        that is no file stands in the lock's place.
    """
    from filelock import FileLock, Timeout

    path = folder / f".{part}.lock"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "no regular file"
        raise FileError(f"{path} is {kind}, and the lock of graphkd is a file: remove it and run again")
    lock = FileLock(path, timeout=_PATIENCE, is_singleton=True, on_acquired=_sign)
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            found = f"{folder} is being written by {_holder(path)}"
            raise LockedError(f"{found}: let it end, or choose another folder") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning("the file system of %s has no locks: let no other process write there", folder)
    try:
        yield
    finally:
        if lock.lock_counter == 1 and sys.platform != "win32":  # which removes no open file
            path.unlink(missing_ok=True)  # while it is held: whoever waits for it sees that and makes a new one
        lock.release()


def _sign(handle: int) -> None:
    """Say in the lock's file who holds it; on a full disk the lock holds without a name."""
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    if os.fstat(handle).st_nlink > 1:  # it is a hard link to somebody's file
        return
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())


def _holder(path: Path) -> str:
    try:
        return read_text(path, _SIGNATURE).strip() or "another process"
    except (OSError, ValueError):
        return "another process"
