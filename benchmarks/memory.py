"""Peak extra memory of one call: the allocator's on a GPU, the resident set of a fresh process on the CPU."""

import multiprocessing
import os
import re
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks.case import Shape, cases
from benchmarks.forms import Runner

# Before the first fork: freed blocks go back to the system at once, so that the resident set is what is in use.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "65536")
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "65536")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mib(name: str, shape: Shape, form: str, device: str = "cpu", threads: int = 2, timeout: float = 120) -> float:
    """MiB above inputs that forward and gradient of a form need.

    Raises: RuntimeError where it cannot be had: killed for memory, or slower than the timeout (seconds).
    """
    return measured(name, shape, form, device, threads, timeout)[0]


def measured(
    name: str, shape: Shape, form: str, device: str = "cpu", threads: int = 2, timeout: float = 120
) -> tuple[float, float]:
    """Peak extra MiB, and the highest resident set (on a GPU: allocation) in MiB, inputs and libraries included."""
    if device != "cpu":
        return _on_gpu(Runner(cases()[name], shape, form, device))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.memory"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, name, shape, form, threads))
    process.start()
    theirs.close()
    try:
        answer = ours.recv() if ours.poll(timeout) else f"no answer within {timeout:g} s"
    except EOFError:
        process.join()
        answer = f"the process ended with code {process.exitcode} (out of memory?)"
    process.kill()
    process.join()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return float(answer[0]), float(answer[1])


def _child(pipe: Connection, name: str, shape: Shape, form: str, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        runner = Runner(cases()[name], shape, form)
        small = tuple(min(each, 16) for each in shape) if form != "compile" else shape
        Runner(cases()[name], small, form).tried()  # threads, libraries and code of all that is used
        with runner.scope():
            before = _resident("VmRSS")
            high = _highest(runner)
        pipe.send(((high - before) / 1024, high / 1024))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}"[:200])


def _highest(runner: Runner) -> int:
    """KiB: the kernel's own high-water mark; where it cannot be reset, what a sampler sees."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return _sampled(runner)
    runner()
    return _resident("VmHWM")


def _sampled(runner: Runner) -> int:
    seen, done = [_resident("VmRSS")], threading.Event()

    def watch() -> None:
        while not done.wait(5e-4):
            seen.append(_resident("VmRSS"))

    thread = threading.Thread(target=watch)
    thread.start()
    runner()
    done.set()
    thread.join()
    return max(seen)


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+)", _STATUS.read_text())
    assert found is not None
    return int(found[1])


def _on_gpu(runner: Runner) -> tuple[float, float]:
    with runner.scope():
        runner()
        runner.synchronize()
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        runner()
        runner.synchronize()
        high = torch.cuda.max_memory_allocated()
    return (high - base) / 2**20, high / 2**20
