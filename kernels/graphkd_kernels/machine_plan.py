"""What ``graphkd tune`` found on a machine: its file, and the table of choices that is in force.

A machine has one file in the user's cache folder. It is read once per process and never in a step. A file of another
machine, another version or other kernels is not used, and neither is a damaged one: the log says so once.
"""

import errno
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from graphkd_kernels import _triton

log = logging.getLogger("graphkd_kernels")

FORMAT = 1
VARIABLE = "GRAPHKD_PLAN"
"""Names another file than that in the cache folder, or ``none``."""
BACKENDS = ("eager", "blocked", "triton")
Steps = tuple[tuple[int, str], ...]
"""From which size on which backend: ``((0, "eager"), (4096, "blocked"))``."""
Verdict = bool | str
"""True, or what is wrong."""
_SHIPPED = Path(__file__).with_name("shipped_plan.json")
_SOURCES = ("autograd.py", "grams.py", "plans.py", "precision.py", "reference/*.py", "_blocked/*.py", "_triton/*.py")
_LARGEST = 1 << 24  # bytes of a plan; one has some 100 KiB
_ROOM = 1 << 17  # bytes, more than a plan takes
_TILE = 6  # numbers of a kernel's configuration
_SAID = 300  # characters of what is wrong with a plan


@dataclass(frozen=True)
class Table:
    """Choices and verdicts, as ``auto`` uses them.

    Args:
        source: where they come from, in words.
        choices: curve (an operation, or one of its kinds) -> name of a dtype -> steps.
        verified: operation -> name of a dtype -> backend -> verdict.
        measured: curves that this machine measured itself; the others are the shipped table's.
        tiles: kernel and arithmetic (``"gram bf16x3"``) -> configuration, where another than ours is the fastest.
        threads: of the CPU when it was measured; ``None`` where that does not matter.
    """

    source: str
    choices: Mapping[str, Mapping[str, Steps]] = field(default_factory=dict)
    verified: Mapping[str, Mapping[str, Mapping[str, Verdict]]] = field(default_factory=dict)
    measured: frozenset[str] = frozenset()
    tiles: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    threads: int | None = None

    @property
    def other_threads(self) -> str:
        """A clause where this process has another number of threads than the plan was measured with, else nothing."""
        here = torch.get_num_threads()
        if self.threads in (None, here):
            return ""
        return f"measured with {self.threads} threads, and here are {here}: run graphkd tune with as many"

    @property
    def digest(self) -> str:
        """Names the choices: two tables with one digest run the same implementations."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def failures(self) -> list[str]:
        """What is wrong on this machine, a line for each."""
        wrong: dict[tuple[str, str, str], list[str]] = {}
        for operation, by_dtype in self.verified.items():
            for dtype, by_backend in by_dtype.items():
                for backend, verdict in by_backend.items():
                    if verdict is not True:
                        wrong.setdefault((operation, backend, str(verdict)), []).append(dtype)
        return [f"{operation}, {backend}, {', '.join(at)}: {why}" for (operation, backend, why), at in wrong.items()]

    def without_failures_of(self, other: "Table") -> "Table":
        """Itself, but what is wrong by another table is wrong."""
        verified = {op: {dtype: dict(each) for dtype, each in own.items()} for op, own in self.verified.items()}
        for operation, by_dtype in other.verified.items():
            for dtype, by_backend in by_dtype.items():
                wrong = {name: verdict for name, verdict in by_backend.items() if verdict is not True}
                if wrong:
                    verified.setdefault(operation, {}).setdefault(dtype, {}).update(wrong)
        return replace(self, verified=verified)

    def to_json(self) -> dict[str, Any]:
        """Choices and verdicts as JSON-ready data; times are left out."""
        choices = {name: dict(each) for name, each in self.choices.items()}
        return {"choices": choices, "verified": dict(self.verified), "tiles": dict(self.tiles)}

    @classmethod
    def of(cls, data: Mapping[str, Any], source: str) -> "Table":
        """From a file's data. Raises: LookupError, TypeError, ValueError or AttributeError for what is no plan."""
        choices = {
            name: {dtype: _steps(steps) for dtype, steps in each.items()} for name, each in data["choices"].items()
        }
        for name, by_dtype in choices.items():
            if "float32" not in by_dtype:
                raise ValueError(f"{name} has no choice for float32")
        verified = {
            operation: {dtype: {str(b): _verdict(v) for b, v in backends.items()} for dtype, backends in each.items()}
            for operation, each in data["verified"].items()
        }
        tiles = {str(name): _tile(sizes) for name, sizes in data.get("tiles", {}).items()}
        return cls(source, choices, verified, frozenset(choices), tiles)


def _steps(found: Any) -> Steps:
    steps = tuple((start, backend) for start, backend in found)
    starts = [start for start, _ in steps]
    known = all(type(start) is int and backend in BACKENDS for start, backend in steps)
    if not known or starts[:1] != [0] or starts != sorted(set(starts)):
        raise ValueError(f"{found!r} are no steps of sizes and backends")
    return steps


def _tile(found: Any) -> tuple[int, ...]:
    sizes = tuple(found)
    if len(sizes) != _TILE or any(type(each) is not int or each < 0 for each in sizes):
        raise ValueError(f"{found!r} is no configuration of a kernel")
    return sizes


def _verdict(found: Any) -> Verdict:
    if found is not True and not isinstance(found, str):
        raise ValueError(f"{found!r} is neither true nor a reason")
    return found


# the machine


@cache
def machine(device: str) -> dict[str, str]:
    """What a plan holds for: the device, torch, Triton, and the digest of the kernels' sources."""
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    else:
        name, capability = _processor(), torch.backends.cpu.get_cpu_capability()
    if _triton.interpreting():
        capability += " interpreted"
    return {
        "device": name,
        "capability": capability,
        "torch": torch.__version__,
        "triton": _version("triton"),
        "kernels": _digest_of_sources(),
    }


def _processor() -> str:
    with suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@cache
def _digest_of_sources() -> str:
    digest, root = hashlib.sha256(), Path(__file__).parent
    for path in sorted(path for pattern in _SOURCES for path in root.glob(pattern)):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


# the file


def place(device: str) -> Path | None:
    """Where this machine's plan is, or would be; ``None`` where ``GRAPHKD_PLAN`` is ``none``.

    Raises: FileNotFoundError where a user has neither a cache folder nor a home.
    """
    named = os.environ.get(VARIABLE, "")
    if named:
        return None if named == "none" else Path(os.path.expanduser(named))
    cache_folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if cache_folder.startswith("~"):
        raise FileNotFoundError(errno.ENOENT, f"the plan has no place: set HOME, XDG_CACHE_HOME or {VARIABLE}")
    about = machine(device)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{about['device']} {about['capability']}".lower()).strip("-")
    return Path(cache_folder) / "graphkd" / f"plan-{slug}.json"


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Write a plan whole or not at all: an older one stays until the new one is on the disk. Raises: OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8") as file:
            file.write(json.dumps(data, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"the plan was not written: {error.strerror}", str(path)) from error
        raise


def require_room(path: Path) -> None:
    """Find out before anything is measured whether a plan can be written. Raises: OSError."""
    if path.exists() and not path.is_file():  # a device, say, which writing would replace
        raise FileExistsError(errno.EEXIST, "the plan would not be written: what is there is no file", str(path))
    probe = path.with_name(f".{path.name}.room")
    try:
        write(probe, {"room": " " * _ROOM})
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """A plan's data. Raises: OSError; ValueError for what is no plan."""
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise ValueError("it is no file")
    with path.open("rb") as file:
        text = file.read(_LARGEST + 1)
    try:
        data = json.loads(text) if len(text) <= _LARGEST else None
        if not isinstance(data, dict) or data["format"] != FORMAT:
            raise ValueError("it is no plan of this format")
        if not all(isinstance(data.get(name, {}), dict) for name in ("machine", "times")):
            raise ValueError("its machine or its times are no table")
        Table.of(data, "")
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from error
    return data


def unlike(data: Mapping[str, Any], device: str) -> str | None:
    """What a plan was made for that is not here, in words, or ``None``."""
    here, there = machine(device), data["machine"]
    found = [f"{name} {there.get(name)!r}, here {value!r}" for name, value in here.items() if there.get(name) != value]
    return "; ".join(found) or None


# the table in force


@cache
def shipped() -> Table:
    """The table of the package, made by ``graphkd tune`` on one CPU: the default of CPUs."""
    return Table.of(read(_SHIPPED), "the shipped table")


def load(device: str) -> Table:
    """The table for a device: its machine's plan, and what that lacks from the shipped one (CPU) or not at all."""
    default = Table(shipped().source, shipped().choices) if device == "cpu" else Table("no plan")
    here = device == "cpu" or (device.startswith("cuda") and torch.cuda.is_available())
    try:
        path = place(device) if here else None
        if path is None:
            return default
        data = read(path)
        why = unlike(data, device)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not os.environ.get(VARIABLE):
            if device != "cpu":
                log.warning("%s", _advice(device))
            return default
        why = error.strerror
    except (OSError, ValueError) as error:
        why = str(error)
    if why is None:
        own = Table.of(data, f"the plan of this machine ({path})")
        threads = data.get("threads") if device == "cpu" else None
        return replace(own, choices={**default.choices, **own.choices}, threads=threads)
    why = f"the kernels' plan {path} is not used: {why[:_SAID]}"
    log.warning("%s. graphkd tune makes a new one", why)
    return replace(default, source=f"{default.source}, for {why}")


def _advice(device: str) -> str:
    return (
        f"no plan of {machine(device)['device']} is here: 'auto' runs plain PyTorch up to 4 million entries of a "
        "matrix, blocks of rows beyond, and no Triton kernel. graphkd tune compares every kernel with float64 on this "
        "machine and times it, in some 3 minutes; then 'auto' runs the fastest of those that are right"
    )


_IN_FORCE: dict[str, Table] = {}  # by device
PICKED: dict[Any, Any] = {}
"""What dispatch remembers of these tables."""
REMEMBERED: list[dict[Any, Any]] = [PICKED]
"""All that is remembered of these tables; forgotten when one changes."""


def in_force(device: str) -> Table:
    """The table that ``auto`` uses on a device (``"cpu"``, ``"cuda:0"``); read from disk at the first question."""
    device = _numbered(device)
    found = _IN_FORCE.get(device)
    if found is None:
        found = _IN_FORCE[device] = load(device)
    return found


def _numbered(device: str) -> str:
    """As a tensor names its device: of several processes on a CPU, each has a number beside it."""
    if device.startswith("cpu:"):
        return "cpu"
    return f"cuda:{torch.cuda.current_device()}" if device == "cuda" and torch.cuda.is_available() else device


def put(device: str, table: Table | None) -> None:
    """Use a table from now on; ``None``: what the disk says at the next question."""
    if table is None:
        _IN_FORCE.pop(_numbered(device), None)
    else:
        _IN_FORCE[_numbered(device)] = table
    forget()


def forget() -> None:
    """Remember nothing of these tables."""
    for each in REMEMBERED:
        each.clear()


@contextmanager
def using(device: str, table: Table) -> Iterator[None]:
    """Use a table inside the ``with`` block."""
    before = in_force(device)
    put(device, table)
    try:
        yield
    finally:
        put(device, before)


def choices(curve: str, dtype: torch.dtype, device: str) -> tuple[str, Steps] | None:
    """Where the choices of a curve come from, and their steps; ``None`` where nothing was measured."""
    table = in_force(device)
    by_dtype = table.choices.get(curve)
    if by_dtype is None:
        return None
    source = table.source if curve in table.measured else "the shipped table"
    return source, by_dtype.get(str(dtype).removeprefix("torch."), by_dtype["float32"])


def tile(kernel: str, math: str, device: str) -> tuple[int, ...] | None:
    """The configuration of a kernel that was the fastest on this device, or ``None`` for our own."""
    return in_force(device).tiles.get(f"{kernel} {math}")


def failure(operation: str, backend: str, dtype: torch.dtype, device: str) -> str | None:
    """What a backend did wrong when it was verified on this device, or ``None``."""
    by_dtype = in_force(device).verified.get(operation, {})
    found = by_dtype.get(str(dtype).removeprefix("torch."), {}).get(backend, True)
    return None if found is True else str(found)


choices._dynamo_marked_constant = True  # type: ignore[attr-defined]  # a compiler asks once, and reads no file
failure._dynamo_marked_constant = True  # type: ignore[attr-defined]
