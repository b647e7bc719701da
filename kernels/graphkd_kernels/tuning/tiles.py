"""Tiles of the kernels with products: those near our own that compile without faults and are right, timed."""

from collections.abc import Iterator
from dataclasses import astuple, replace
from typing import Any

import torch

from graphkd_kernels import machine_plan
from graphkd_kernels._triton.configs import MATHS, pick
from graphkd_kernels._triton.launch import Config, arch
from graphkd_kernels.machine_plan import Table
from graphkd_kernels.plans import Shape
from graphkd_kernels.tuning.problems import PROBLEMS, Problem
from graphkd_kernels.tuning.timing import Step, clock_of, paired
from graphkd_kernels.tuning.verify import Case, Check

Row = dict[str, Any]
_PLACES: dict[str, tuple[str, Shape]] = {  # a problem and a size at which the kernel does most of the work
    "edges_bwd": ("edge_sum cosine huber", (2048, 128)),
    "edges": ("edge_sum cosine huber", (2048, 512)),
    "gram": ("edge_sum pearson square", (8192, 512)),
    "product": ("edge_sum pearson square", (8192, 512)),
    "knn": ("knn 10", (4096, 128)),
}
KERNELS = tuple(_PLACES)
_DTYPES = {"bf16x3": torch.bfloat16, "tf32x3": torch.float32}
_CASES = (Case("97x65", 97, 65), Case("256x512", 256, 512))


def near(own: Config) -> list[Config]:
    """Our own configuration, and up to seven that differ in one thing."""
    changes: tuple[dict[str, int], ...] = (
        {"stages": own.stages + 1},
        {"stages": own.stages - 1},
        {"warps": own.warps // 2},
        {"rows": own.rows // 2},
        {"columns": own.columns // 2},
        {"rows": own.rows * 2},
        {"depth": own.depth // 2},
    )
    found = [own, *(replace(own, **each) for each in changes)]
    return [each for each in found if min(each.rows, each.columns, each.depth) >= 16 and each.warps and each.stages]


def faults(kernel: str, math: str, config: Config, capability: int) -> list[str]:
    """Why the ahead-of-time gate refuses a configuration, of the first launch that would use it."""
    from graphkd_kernels._triton.aot_check import compile
    from graphkd_kernels._triton.table import CASES, launches

    rule = _problem(kernel).operation.replace("knn", "nearest")
    with machine_plan.using("meta", _table(kernel, math, config)):
        for case in (each for each in CASES if each.rule == rule and _DTYPES[math] in each.dtypes):
            for launch in launches(case, capability, [_DTYPES[math]]):
                if launch.kernel.__name__.startswith(kernel) and launch.config == config:
                    return compile(launch, capability).faults(launch.math)
    return ["no operation uses it"]


def timed(kernel: str, device: str, threads: int, seconds: float) -> Iterator[Row]:
    """A row for each configuration: milliseconds, or why it has none."""
    torch.set_num_threads(threads)
    yield {"kind": "device"}
    where, problem = torch.device(device), _problem(kernel)
    for math in _DTYPES:
        if kernel == "knn" and math == "bf16x3":
            continue  # its keys are float32
        for config in near(pick(kernel, MATHS[math], where)):
            row: Row = {"kind": "tiles", "kernel": kernel, "math": math, "config": list(astuple(config))}
            with machine_plan.using(device, _table(kernel, math, config)):
                why = faults(kernel, math, config, arch(where)) or _wrong(problem, _DTYPES[math], where)
                if why:
                    yield row | {"why": why[0]}
                    continue
                step = Step(problem, _PLACES[kernel][1], "triton", _DTYPES[math], where)
                yield row | paired({"ms": step}, seconds, clock_of(where))


def _wrong(problem: Problem, dtype: torch.dtype, device: torch.device) -> list[str]:
    rows = [Check(problem, case, device).row("triton", dtype) for case in _CASES]
    return [row["why"] for row in rows if "why" in row]


def _problem(kernel: str) -> Problem:
    return next(each for each in PROBLEMS if each.name == _PLACES[kernel][0])


def _table(kernel: str, math: str, config: Config) -> Table:
    return Table("a configuration that is tried", tiles={f"{kernel} {math}": astuple(config)})
