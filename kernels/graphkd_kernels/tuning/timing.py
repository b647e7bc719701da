"""Times of the backends of one problem, taken in turn, so that what disturbs the machine disturbs all alike."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import cache, partial
from math import ceil
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor

from graphkd_kernels import dispatch
from graphkd_kernels.plans import Shape
from graphkd_kernels.tuning.problems import Problem

Call = Callable[[], Any]
Row = dict[str, Any]
TURN = 3e-4
"""Seconds; a shorter call is repeated within its turn: a short turn is seldom interrupted, the median drops those."""
_ROUNDS = 101
_SLOW = 0.4  # seconds of the fastest backend: larger sizes follow the last one's choice
_LARGE = 31 << 20  # bytes; of larger tensors glibc keeps none
_HOPELESS = 4.0  # times slower than the fastest, and slow: not timed at larger sizes


def sample(call: Call, repeats: int, clock: Callable[[], float] = perf_counter) -> float:
    """Milliseconds per call of one turn."""
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) * 1e3 / repeats


def sample_on_gpu(call: Call, repeats: int) -> float:
    """Milliseconds per call of one turn, between two events of the current stream."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / repeats


def clock_of(device: torch.device) -> Callable[[Call, int], float]:
    """How calls on a device are timed; one thread by its own clock, which stands while others run."""
    if device.type == "cuda":
        return sample_on_gpu
    return partial(sample, clock=process_time) if torch.get_num_threads() == 1 else sample


def interleaved(
    calls: Mapping[str, Call], rounds: int, sample: Callable[[Call, int], float] = sample
) -> dict[str, list[float]]:
    """Milliseconds of each call in each round; every round runs all, the first one in turn another.

    A call with a ``scope`` runs inside it.
    """
    names, repeats = list(calls), dict[str, int]()
    scopes = {name: getattr(call, "scope", nullcontext) for name, call in calls.items()}
    for name in names:
        with scopes[name]():
            once = sample(calls[name], 1) / 1e3
            if once < TURN * 1e3:
                once = min(sample(calls[name], 1) for _ in range(3)) / 1e3
            repeats[name] = ceil(TURN / min(max(once, 1e-7), TURN))
    found: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            with scopes[name]():
                found[name].append(sample(calls[name], repeats[name]))
    return found


class Step:
    """Forward and gradient of a problem on one backend."""

    def __init__(self, problem: Problem, shape: Shape, backend: str, dtype: torch.dtype, device: torch.device) -> None:
        made = problem.tensors(shape, device)
        self.tensors = [x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in made]
        self.students = [x.requires_grad_() for x in self.tensors[: problem.students]]
        self.run = partial(dispatch.run, problem.operation)
        self.options = problem.arguments(shape[0])
        self.upstream: Tensor | None = None
        self.scope = partial(dispatch.backend, backend)

    def __call__(self) -> None:
        value = self.run(*self.tensors, *self.options)
        if self.students:
            if value.ndim and self.upstream is None:
                self.upstream = torch.rand_like(value)
            torch.autograd.grad(value, self.students, self.upstream)


def times(
    problem: Problem, names: list[str], dtype: torch.dtype, device: torch.device, seconds: float
) -> Iterator[Row]:
    """A row for each size: milliseconds by backend. One that does not fit the memory is left out, and so are sizes
    beyond what the first ones say."""
    names, take = list(names), clock_of(device)
    for shape in problem.grid:
        found = paired({name: Step(problem, shape, name, dtype, device) for name in names}, seconds, take)
        if not found:
            return
        curve, size = problem.size(shape, dtype, str(device))
        yield {"curve": curve, "size": size, "shape": "x".join(map(str, shape)), "dtype": str(dtype)[6:], "ms": found}
        best = min(found.values())
        if best > 1e3 * _SLOW:
            return
        names = [name for name, ms in found.items() if ms < _HOPELESS * best or ms < 1e2 * _SLOW]


@cache
def as_in_training() -> Tensor:
    """Give the process the memory of one that has trained: freed, and kept by the C library.

    In a new process large tensors get their pages from the system and give them back, which costs more than the
    arithmetic on them: a backend that holds whole matrices looks up to twice as slow as it is in a training loop.

    Returns: what keeps the end of that memory, else it would be given back.
    """
    torch.empty(_LARGE, dtype=torch.uint8)  # malloc has smaller ones in its own memory from now on
    freed = [torch.ones(_LARGE // 2, dtype=torch.uint8) for _ in range(8)]
    end = torch.ones(1 << 14, dtype=torch.uint8)
    del freed
    return end


def paired(steps: dict[str, Step], seconds: float, take: Callable[[Call, int], float]) -> dict[str, float]:
    """Milliseconds of each: that of the first in the median, of the others by the median of their ratios to it."""
    as_in_training()
    fits: dict[str, Step] = {}
    for name, step in steps.items():
        try:
            with step.scope():
                step()
        except torch.OutOfMemoryError:
            continue
        fits[name] = step
    if not fits:
        return {}
    once = sum(max(min(each), 1e3 * TURN) for each in interleaved(fits, 1, take).values()) / 1e3
    rounds = min(_ROUNDS, max(3, int(seconds / once)))
    found = interleaved(fits, rounds, take)
    first = next(iter(found))
    base = median(found[first])
    return {
        name: base * median(own / other for own, other in zip(each, found[first], strict=True))
        for name, each in found.items()
    }
