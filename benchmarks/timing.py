"""How long a call takes: medians of samples long enough for the clock; forms interleaved where they are compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
from graphkd_kernels.tuning.timing import TURN as TURN
from graphkd_kernels.tuning.timing import interleaved as interleaved
from graphkd_kernels.tuning.timing import sample as sample

from benchmarks.forms import Runner

Call = Callable[[], Any]
SAMPLE = 2e-3  # seconds; shorter calls are repeated within a sample
SLOW = 0.5  # seconds; such a call is neither repeated nor warmed up for long
SHORT_MS = 1.0  # below it a CUDA graph is timed as well


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call: median, 20 % and 80 % quantile, number of samples."""

    ms: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> "Timing":
        """From the samples of one run."""
        if len(milliseconds) < 2:
            return cls(milliseconds[0], milliseconds[0], milliseconds[0], len(milliseconds))
        fifths = quantiles(milliseconds, n=5, method="inclusive")
        return cls(median(milliseconds), fifths[0], fifths[3], len(milliseconds))


def plan(call: Call, budget: float, most: int = 50) -> tuple[int, int]:
    """Calls within a sample, and samples, that fit a budget in seconds; at least three samples, two of slow calls."""
    once = _once(call)
    repeats = ceil(SAMPLE / once) if once < SAMPLE else 1
    return repeats, min(most, max(2 if once >= SLOW else 3, int(budget / (repeats * once))))


def _once(call: Call) -> float:
    """Seconds of a call, not of the first one unless that is slow: then what a first call adds does not matter."""
    first = sample(call, 1) / 1e3
    return first if first >= SLOW else max(min(sample(call, 1) for _ in range(3)) / 1e3, 1e-7)


def timed(call: Call, budget: float = 0.3) -> Timing:
    """Median time of a call within a budget in seconds; a slow call is timed once."""
    once = _once(call)
    if once >= SLOW:
        return Timing.of([1e3 * once])
    repeats = ceil(SAMPLE / once) if once < SAMPLE else 1
    samples = min(50, max(3, int(budget / (repeats * once))))
    return Timing.of([sample(call, repeats) for _ in range(samples)])


def turn(call: Call) -> int:
    """Calls within a turn."""
    return ceil(TURN / min(_once(call), TURN))


def ratios(base: Sequence[float], other: Sequence[float]) -> Timing:
    """base / other of each round: the speed-up of ``other``, with its quantiles."""
    return Timing.of([a / b for a, b in zip(base, other, strict=True)])


def on_gpu(runner: Runner, mode: str, budget: float = 0.3) -> dict[str, Any]:
    """Events around calls over rotating inputs beyond the L2 cache; host time; and GPU time within a CUDA graph."""

    def whole() -> None:
        runner(mode)
        runner.synchronize()

    once = _once(whole)
    if once >= SLOW:
        return {"timing": Timing.of([1e3 * once]), "host_us": 1e6 * once}
    sets = runner.rotation(3 * torch.cuda.get_device_properties(runner.device).L2_cache_size)
    samples = min(50, int(budget / once))
    for each in sets:
        each(mode)
    found = []
    for i in range(max(samples, len(sets))):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        sets[i % len(sets)](mode)
        end.record()
        runner.synchronize()
        found.append(start.elapsed_time(end))
    timing = Timing.of(found)
    start_s = perf_counter()
    for each in sets:
        each(mode)
    host = (perf_counter() - start_s) * 1e6 / len(sets)
    runner.synchronize()
    row: dict[str, Any] = {"timing": timing, "host_us": host}
    if timing.ms < SHORT_MS:
        row |= _graph(sets, mode)
    return row


def _graph(sets: Sequence[Runner], mode: str, replays: int = 20) -> dict[str, Any]:
    """Milliseconds per call when all calls are one CUDA graph, or why they cannot be."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for each in sets:
                each(mode)
    except RuntimeError as error:
        torch.cuda.synchronize()
        return {"graph_why": str(error).splitlines()[0][:120]}
    graph.replay()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(replays):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return {"graph_ms": start.elapsed_time(end) / (replays * len(sets))}
