"""Peak extra memory of one call: the allocator's on a GPU, the resident set of a fresh process on the CPU."""

import multiprocessing
import os
import re
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import torch

from benchmarks.case import Shape, cases
from benchmarks.forms import Runner
from benchmarks.timing import on_gpu, timed

# Before the first fork: freed blocks go back to the system at once, so that the resident set is what is in use.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "65536")
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "65536")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Weighed:
    """MiB above the inputs, highest MiB of the whole process (on a GPU: of all allocations), ms of a call or 0."""

    peak_mib: float
    high_mib: float
    ms: float


def weighed(
    name: str,
    shape: Shape,
    form: str,
    device: str = "cpu",
    threads: int = 2,
    timeout: float = 120,
    budget: float | None = None,
) -> Weighed:
    """Forward and gradient of a form in a fresh process.

    Args:
        name, shape, form, device, threads: what runs, and where.
        timeout: seconds for all of it.
        budget: seconds of timing; default none.

    Raises: RuntimeError where it cannot be had: no memory, too slow, or not available.
    """
    if device != "cpu":
        return weighed_on_gpu(Runner(cases()[name], shape, form, device), budget)
    context = forking_server()
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, name, shape, form, threads, budget))
    process.start()
    theirs.close()
    try:
        answer = ours.recv() if ours.poll(timeout) else f"no answer within {timeout:g} s"
    except EOFError:
        answer = "the process was ended (out of memory?)"
    process.kill()
    process.join()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    assert isinstance(answer, Weighed)
    return answer


@cache
def forking_server() -> ForkServerContext:
    """Where measuring processes come from: one that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.methods", "benchmarks.ops"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)  # the server has its own sys.path
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return context


def available_mib() -> float:
    """What the machine has left."""
    found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found[1]) / 1024 if found else float("inf")


def _child(pipe: Connection, name: str, shape: Shape, form: str, threads: int, budget: float | None) -> None:
    torch.set_num_threads(threads)
    limit = status("VmSize") * 1024 + int(0.8 * available_mib() * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # an error here, rather than the whole machine out of memory
    try:
        runner = Runner(cases()[name], shape, form)
        small = tuple(min(each, 16) for each in shape) if form != "compile" else shape
        Runner(cases()[name], small, form).tried()  # threads, libraries and code of all that is used
        with runner.scope():
            before = status("VmRSS")
            with suppress(OSError):  # where it cannot be reset, the mark is that of the small call, or of the imports
                CLEAR.write_text("5")
            runner()
            high = status("VmHWM")
            ms = 0.0 if budget is None else timed(runner, budget).ms
        pipe.send(Weighed((high - before) / 1024, high / 1024, ms))
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        pipe.send(f"needs more than {limit / 2**30:.0f} GiB" if "allocate memory" in text else text[:200])


def status(field: str) -> int:
    """KiB of this process: a field of Linux's ``/proc/self/status``."""
    found = re.search(rf"{field}:\s+(\d+)", STATUS.read_text())
    assert found is not None
    return int(found[1])


def weighed_on_gpu(runner: Runner, budget: float | None = None) -> Weighed:
    """The same by the allocator, in this process."""
    try:
        with runner.scope():
            runner()
            runner.synchronize()
            torch.cuda.reset_peak_memory_stats()
            base = torch.cuda.memory_allocated()
            runner()
            runner.synchronize()
            high = torch.cuda.max_memory_allocated()
            ms = 0.0 if budget is None else on_gpu(runner, runner.modes[0], budget)["timing"].ms
    except torch.cuda.OutOfMemoryError as error:
        raise RuntimeError(str(error).splitlines()[0][:120]) from None
    return Weighed((high - base) / 2**20, high / 2**20, ms)
