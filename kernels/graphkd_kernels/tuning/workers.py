"""A process for each piece of work, with a time limit: what crashes or hangs there costs that piece alone.

A server process loads torch once and forks the others, before any of them has touched a GPU.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any

Row = dict[str, Any]
Work = Callable[..., Iterator[Row]]
_PRELOADED = ["torch", "torch._dynamo", "torch._functorch.aot_autograd", "graphkd_kernels.tuning.work"]
_LIVE: set[Any] = set()
_LOCK = threading.Lock()  # of the main module, which a start hides, and of the live ones
_START = 120.0  # seconds until the first row: the server loads torch before


def rows_of(work: Work, arguments: tuple[Any, ...], silent: float, seconds: float) -> Iterator[Row]:
    """The rows that a function yields in a process of its own.

    After them one with ``"died"`` if the process crashed or hung, or one with ``"cut"`` if its time was up.

    Args:
        work: of a module, importable by name; it yields its first row at once.
        silent: seconds without a row that are a hang.
        seconds: after the first row.
    """
    mine, theirs = _context().Pipe(duplex=False)
    process = _context().Process(target=_serve, args=(theirs, work, arguments), daemon=True)
    _start(process)
    theirs.close()
    patience, end = _START, monotonic() + _START + seconds
    try:
        while mine.poll(max(0.0, min(patience, end - monotonic()))):
            row = mine.recv()
            if row is None:
                process.join(1)
                return
            yield row
            if patience == _START:
                patience, end = silent, monotonic() + seconds
        yield {"cut": True} if monotonic() >= end else {"died": f"it hung for {silent:.0f} s"}
    except EOFError:
        process.join()
        yield {"died": _ending(process.exitcode)}
    finally:
        _LIVE.discard(process)
        process.kill()
        process.join()
        mine.close()


def stop() -> None:
    """End every process, whichever thread waits for it."""
    with _LOCK:
        for process in list(_LIVE):
            process.kill()


@cache
def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _start(process: Any) -> None:
    """Without the program's own main module, which the new process has no use for, and out of reach of Ctrl-C."""
    with _LOCK, _no_interrupts():
        main = sys.modules["__main__"]
        sys.modules["__main__"] = type(sys)("__main__")
        try:
            process.start()
            _LIVE.add(process)
        finally:
            sys.modules["__main__"] = main


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """A terminal interrupts all processes: the server inherits what is blocked here, and so do those that it forks."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start, by the server's, would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(answers: Connection, work: Work, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the asking process answers it, and ends this one
    threading.Thread(target=_end_with_the_asking_process, daemon=True).start()
    os.environ["GRAPHKD_PLAN"] = "none"  # backends are asked for by name, whatever an earlier plan says of them
    try:
        for row in work(*arguments):
            answers.send(row)
        answers.send(None)
    except Exception as error:
        answers.send({"died": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})


def _end_with_the_asking_process() -> None:
    """However that ends: killed, it can end nobody."""
    asking = multiprocessing.parent_process()
    assert asking is not None
    wait([asking.sentinel])
    os._exit(1)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with code {code}"
