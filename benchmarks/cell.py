"""One cell of the tables: a form of a case at a shape, checked, timed and weighed."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.case import Case, Shape, label
from benchmarks.check import check
from benchmarks.forms import Runner
from benchmarks.machine import floor_ms, roofline
from benchmarks.memory import weighed, weighed_on_gpu
from benchmarks.timing import SLOW, TURN, Timing, interleaved, on_gpu, ratios, timed

Timer = Callable[[Callable[[], Any]], Timing]


def key(case: Case, shape: Shape, form: str, device: str, dtype: str) -> dict[str, Any]:
    """What identifies the cell."""
    kind = device.partition(":")[0]
    return {"kind": case.kind, "case": case.name, "shape": label(shape), "dtype": dtype, "form": form, "on": kind}


def measure(
    case: Case,
    shape: Shape,
    form: str,
    device: str,
    dtype: str,
    budget: float = 0.2,
    timer: Timer | None = None,
    brief: bool = False,
) -> dict[str, Any]:
    """Errors against float64, then times in ms, memory in MiB, and what share of the machine was used.

    Args:
        case, shape, form, device, dtype: the cell.
        budget: seconds for each mode.
        timer: times forward + gradient on the CPU; default :func:`benchmarks.timing.timed`.
        brief: forward + gradient alone; not the forward pass by itself, and no teacher close to the student.

    Raises: WrongResultError instead of a time; UnavailableError.
    """
    number: torch.dtype = getattr(torch, dtype)
    row = key(case, shape, form, device, dtype) | check(case, shape, form, device, number)
    if case.check_at(shape) != shape:
        row["checked_at"] = label(case.check_at(shape))
    runner = Runner(case, shape, form, device, number)
    runner.tried()
    names = {"both": "ms", "forward": "forward_ms", "no_grad": "no_grad_ms"}
    with runner.scope():
        for mode in runner.modes[:1] if brief else runner.modes:
            name = "ms" if mode == runner.modes[0] else names[mode]
            if runner.device.type == "cuda":
                found = on_gpu(runner, mode, budget)
                timing = found.pop("timing")
                row |= {each if name == "ms" else f"{name[:-3]}_{each}": value for each, value in found.items()}
            elif name == "ms":
                timing = (timer or (lambda call: timed(call, budget)))(lambda mode=mode: runner(mode))
            else:
                timing = timed(lambda mode=mode: runner(mode), budget / 3)
            row[name] = timing.ms
            if name == "ms":
                row |= {f"{part}_ms": value for part, value in asdict(timing).items() if part in ("low", "high")}
                row["samples"] = timing.samples
        if form != "eager" and runner.device.type == "cpu" and row["ms"] < 1e3 * SLOW:
            row["over_eager"] = speedup(case, shape, runner, number, budget)
    if case.near and runner.device.type == "cpu" and not brief:
        close = Runner(case, shape, form, device, number, near=True)
        with close.scope():
            row["near_ms"] = timed(close, budget / 3).ms
    return row | efficiency(case, shape, row["ms"], device, dtype) | _memory(runner, shape)


def speedup(case: Case, shape: Shape, runner: Runner, dtype: torch.dtype, budget: float) -> float:
    """Median ratio of eager's time to this form's, the two taken in turn."""
    calls = {"eager": Runner(case, shape, "eager", str(runner.device), dtype), "form": runner}
    for call in calls.values():
        call.tried()
    once = sum(max(each[0] / 1e3, TURN) for each in interleaved(calls, 1).values())
    times = interleaved(calls, max(1, min(51, int(budget / once))))
    return ratios(times["eager"], times["form"]).ms


def efficiency(case: Case, shape: Shape, ms: float, device: str, dtype: str) -> dict[str, float]:
    """FLOPs and bytes of the cheapest form known, the rates they give, and the floor of this machine."""
    if case.work is None:
        return {}
    flops, elements = case.work(*shape)
    size = elements * getattr(torch, dtype).itemsize
    floor = floor_ms(flops, size, roofline(device), dtype)
    rates = {"gb_s": size / ms / 1e6, "tflop_s": flops / ms / 1e9}
    return {"flops": float(flops), "bytes": float(size), "floor_ms": floor, "of_floor": floor / ms, **rates}


def _memory(runner: Runner, shape: Shape) -> dict[str, Any]:
    try:
        if runner.device.type == "cuda":
            return {"peak_mib": weighed_on_gpu(runner).peak_mib}
        if runner.form == "compile":
            return {}  # a fresh process would have to compile again
        return {"peak_mib": weighed(runner.case.name, shape, runner.form, threads=torch.get_num_threads()).peak_mib}
    except RuntimeError as error:
        return {"peak_why": str(error)}
