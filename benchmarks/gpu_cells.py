"""What runs in a process of its own on the GPU: one cell of the table, checked, timed, its inputs made there."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.case import Shape, UnavailableError, cases
from benchmarks.cell import efficiency, key
from benchmarks.check import WrongResultError, check
from benchmarks.forms import Runner
from benchmarks.results import Row
from benchmarks.timing import on_gpu

BUDGET = 0.1  # seconds of samples
DEVICE = "cuda"


def cell(kind: str, name: str, shape: Shape, form: str, dtype: str) -> Iterator[Row]:
    """A row: errors against float64, then ms (and of a short call within a CUDA graph), or why there is no number."""
    yield {"kind": "device"}  # at once: the process lives
    case, number = cases()[name], getattr(torch, dtype)
    row = key(case, shape, form, DEVICE, dtype) | {"kind": kind}
    try:
        row |= check(case, shape, form, DEVICE, number)
        runner = Runner(case, shape, form, DEVICE, number)
        runner.tried()
        torch.cuda.reset_peak_memory_stats()
        with runner.scope():
            found = on_gpu(runner, runner.modes[0], BUDGET)
        timing = asdict(found.pop("timing"))
        row |= {"ms": timing["ms"], "low_ms": timing["low"], "high_ms": timing["high"], "samples": timing["samples"]}
        row |= found | efficiency(case, shape, timing["ms"], DEVICE, dtype)
        row["reserved_mib"] = torch.cuda.max_memory_reserved() / 2**20
    except (UnavailableError, WrongResultError, torch.OutOfMemoryError) as why:
        row["why"] = str(why).splitlines()[0]
    yield row


def step(batch: int) -> Iterator[Row]:
    """A training step with a stored teacher."""
    yield {"kind": "device"}
    from benchmarks.training_step import measure

    yield measure(batch, DEVICE)


def about() -> dict[str, Any]:
    """The machine in words, with its roofline; in the asking process, which then holds little of the GPU."""
    from benchmarks import machine

    return machine.environment(DEVICE, torch.get_num_threads())
