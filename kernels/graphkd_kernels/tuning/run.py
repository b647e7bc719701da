"""The run of ``graphkd tune``: what is done in which order, within a budget, and kept whatever ends it."""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from graphkd_kernels import _triton, machine_plan
from graphkd_kernels.tuning import problems, work
from graphkd_kernels.tuning.found import Found
from graphkd_kernels.tuning.workers import rows_of, stop

Row = dict[str, Any]
Say = Callable[[str], None]
BUDGET = 180.0
"""Seconds, by default."""
_SILENT = 10.0, 60.0  # seconds without a row that are a hang: at least, at most
_POINT = 0.5  # seconds at one size, if the budget has them
_AT_ONCE = 6  # processes that verify on a GPU, each with a context of half a GiB there
_VERIFYING = 2 / 3  # of the budget at most, on a slow or a busy machine: what is not timed is not chosen
_TIMED = {"cpu": ("float32",), "cuda": ("bfloat16", "float32")}


class LostError(RuntimeError):
    """The device does not answer any more."""


def tune(
    budget: float = BUDGET, operations: Sequence[str] = (), out: Path | None = None, say: Say = print
) -> tuple[Found, Path]:
    """Verify every backend on this machine, time it, and write the plan; returns what was found, and the plan's path.

    First every operation is verified, then they are timed, the most used ones first. A run that is interrupted, or
    whose device disappears, keeps what it has measured.

    Args:
        budget: seconds; a process under way may take a little longer.
        operations: some of them; by default all. Of the others an earlier plan of this machine is kept.
        out: folder that gets each row as it comes (``rows.jsonl``) and a copy of the plan.
        say: one line on the way.

    Raises: OSError where the plan cannot be written, and an older one is intact; ValueError for an unknown operation,
        a budget in which nothing was verified, and where ``GRAPHKD_PLAN`` is ``none``; KeyboardInterrupt once the plan
        is written.
    """
    if not budget > 0:
        raise ValueError(f"a budget of {budget:g} s is none: give seconds above 0, such as {BUDGET:.0f}")
    unknown = sorted(set(operations) - set(problems.OPERATIONS))
    if unknown:
        raise ValueError(f"unknown operation {unknown[0]!r}: choose among {', '.join(problems.OPERATIONS)}")
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    machine_plan.machine(device)  # remembered: a device that disappears tells its name no more
    path = machine_plan.place(device)
    if path is None:
        raise ValueError(f"{machine_plan.VARIABLE} is 'none', so the plan has no place: unset it, or name a file")
    machine_plan.require_room(path)
    chosen = [each for each in problems.OPERATIONS if not operations or each in operations]
    run = _Run(Found(device), budget, chosen, say)
    with ExitStack() as stack:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            run.rows = stack.enter_context((out / "rows.jsonl").open("a", encoding="utf-8"))
        try:
            run.all()
        finally:
            if run.found.verdicts:
                plan = run.found.plan(_earlier(path, device))
                machine_plan.write(path, plan)
                if out is not None:
                    machine_plan.write(out / "plan.json", plan)
                machine_plan.put(device, None)
    if not run.found.verdicts:
        raise ValueError(f"nothing was verified: {run.reasons['verified']}")
    return run.found, path


def _earlier(path: Path, device: str) -> dict[str, Any]:
    """The plan that is there, if it is of this machine."""
    try:
        data = machine_plan.read(path)
    except (OSError, ValueError):
        return {}
    return {} if machine_plan.unlike(data, device) else data


class _Run:
    """Work and time left.

    Attributes:
        rows: file that gets each row.
        done: what was verified, timed and tuned to its end.
        stopped: why no more work begins.
        reasons: verified, timed or tuned -> why that did not come to its end.
        until: seconds of the budget that the work under way may use.
    """

    def __init__(self, found: Found, budget: float, operations: list[str], say: Say) -> None:
        self.found, self.budget, self.operations, self.say = found, budget, operations, say
        self.until = budget
        self.silent = min(max(_SILENT[0], budget / 6), _SILENT[1])
        self.rows: Any = None
        self.done: set[tuple[str, str]] = set()
        self.stopped: BaseException | None = None
        self.reasons = dict[str, str]()
        self.lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        """For the work under way."""
        return self.until - self.found.seconds

    @property
    def spent(self) -> TimeoutError:
        """Why no more of it begins."""
        return TimeoutError(f"{self.until:.4g} of {self.budget:.4g} s were used up; a larger budget does the rest")

    def all(self) -> None:
        """Everything that fits the budget; what does not is named."""
        gpu = self.found.device != "cpu"
        timed = [each for each in self.operations if any(p.grid for p in problems.of(each))]
        phases: list[tuple[str, Say, list[str]]] = [
            ("verified", self._verify, self.operations),
            ("timed", self._time, timed),
        ]
        if gpu and len(self.operations) == len(problems.OPERATIONS):
            from graphkd_kernels.tuning import tiles  # with triton

            phases.append(("tuned", self._tiles, list(tiles.KERNELS)))
        try:
            for verb, what, names in phases:
                self.until = self.budget * (_VERIFYING if verb == "verified" else 1)
                try:
                    self._phase(verb, what, names, _AT_ONCE if gpu and verb == "verified" else 1)
                except TimeoutError as why:
                    self.reasons[verb], self.stopped = str(why), None
        except BaseException as why:
            self.reasons = {verb: str(why) or "interrupted" for verb, *_ in phases} | self.reasons
            if not isinstance(why, LostError):
                raise
        finally:
            for verb, _, names in phases:
                rest = [each for each in names if (verb, each) not in self.done]
                if rest and verb in self.reasons:
                    self.found.left.append(f"not {verb}: {', '.join(rest)} ({self.reasons[verb]})")
            for line in self.found.left:
                self.say(line)

    def _phase(self, verb: str, what: Say, names: list[str], at_once: int) -> None:
        """Some work at a time: a GPU's kernels are verified in several processes, for compiling is most of it."""

        def one(name: str) -> None:
            try:
                if self.seconds_left <= 0 or self.stopped:
                    raise self.spent
                what(name)
                self.done.add((verb, name))
            except BaseException as why:
                self.stopped = self.stopped or why  # the first one is the reason
                raise

        with ThreadPoolExecutor(at_once) as pool:
            try:
                for each in [pool.submit(one, name) for name in names]:
                    each.result()
            except BaseException as why:
                self.stopped = self.stopped or why
                stop()
                pool.shutdown(cancel_futures=True)
                raise self.stopped from None

    def _verify(self, operation: str) -> None:
        why: str | None = None
        try:
            why = self._rows(work.verified, operation)
        finally:
            with self.lock:
                self.found.ended(operation, None if self.stopped else why)
        if self.stopped:
            raise self.stopped
        wrong = [line for line in self.found.failures if line.startswith(f"{operation},")]
        for line in wrong:
            self.say(f"FAILED {line}")
        if not wrong:
            self.say(f"{operation}: verified")

    def _time(self, operation: str) -> None:
        if ("verified", operation) not in self.done:
            return
        kernels = not _triton.interpreting()  # the interpreter's times are nobody's
        names = {
            dtype: [each for each in self.found.allowed(operation, dtype) if kernels or each != "triton"]
            for dtype in _TIMED[self.found.device.partition(":")[0]]
        }
        points = sum(len(each.grid) * len(names) for name in self._untimed() for each in problems.of(name))
        seconds = min(_POINT, 0.8 * self.seconds_left / max(points, 1))
        why = self._rows(work.timed, operation, names, seconds)
        if why is not None:
            self.found.left.append(f"not timed to the end: {operation} ({why})")
        else:
            self.say(f"{operation}: timed")

    def _tiles(self, kernel: str) -> None:
        from graphkd_kernels.tuning import tiles

        why = self._rows(tiles.timed, kernel, _POINT / 2)
        if why is not None:
            self.found.left.append(f"not tuned to the end: {kernel} ({why})")

    def _untimed(self) -> list[str]:
        return [each for each in self.operations if each not in self.found.operations.values()]

    def _rows(self, what: Any, operation: str, *others: Any) -> str | None:
        """Take the rows of a process; returns what it died of, if it did. Raises: LostError."""
        arguments = operation, self.found.device, torch.get_num_threads(), *others
        for row in rows_of(what, arguments, self.silent, self.seconds_left):
            if self.stopped:
                raise self.stopped
            self._write({"operation": operation} | row)
            if "died" in row:
                return str(row["died"])
            if "cut" in row:
                raise self.spent
            if row.get("lost"):
                raise LostError(f"the device does not answer: {row['lost']}")
            with self.lock:
                self.found.take(row)
        return None

    def _write(self, row: Row) -> None:
        if self.rows is not None:
            with self.lock:
                self.rows.write(json.dumps(row) + "\n")
                self.rows.flush()
