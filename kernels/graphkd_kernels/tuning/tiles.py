"""Tiles of the kernels with products: those near our own that compile without faults and are right, timed."""

from collections.abc import Iterator
from dataclasses import astuple, replace
from typing import Any

import torch

from graphkd_kernels import machine_plan
from graphkd_kernels._triton.configs import MATHS, math, pick
from graphkd_kernels._triton.launch import Config, arch
from graphkd_kernels.machine_plan import Table
from graphkd_kernels.plans import Shape
from graphkd_kernels.tuning.problems import PROBLEMS, Problem
from graphkd_kernels.tuning.timing import Step, clock_of, paired
from graphkd_kernels.tuning.verify import Case, Check

Row = dict[str, Any]
_PLACES: dict[str, tuple[str, Shape]] = {  # a problem and a size at which the kernel does most of the work
    "edges_bwd": ("edge_sum cosine huber", (2048, 128)),
    "edges": ("edge_sum cosine huber", (2048, 256)),
    "gram": ("edge_sum pearson square", (8192, 512)),
    "terms_product": ("edge_sum pearson square", (8192, 512)),
}
KERNELS = tuple(_PLACES)
_DTYPES = {math(dtype).name: dtype for dtype in (torch.bfloat16, torch.float32)}
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


def faults(kernel: str, name: str, config: Config, capability: int) -> list[str]:
    """Why the ahead-of-time gate refuses a configuration, of the first launch that would use it."""
    from graphkd_kernels._triton.aot_check import compile
    from graphkd_kernels._triton.table import CASES, launches

    rule = _problem(kernel).operation
    with machine_plan.using("meta", _table(kernel, name, config)):
        for case in (each for each in CASES if each.rule == rule and _DTYPES[name] in each.dtypes):
            for launch in launches(case, capability, [_DTYPES[name]]):
                if launch.kernel.__name__.startswith(kernel) and launch.config == config:
                    return compile(launch, capability).faults(launch.math)
    return ["no operation uses it"]


def timed(kernel: str, device: str, threads: int, seconds: float) -> Iterator[Row]:
    """A row for each configuration: milliseconds, or why it has none."""
    torch.set_num_threads(threads)
    yield {"kind": "device"}
    where, problem = torch.device(device), _problem(kernel)
    for name, dtype in _DTYPES.items():
        for config in near(pick(kernel, MATHS[name], where)):
            row: Row = {"kind": "tiles", "kernel": kernel, "math": name, "config": list(astuple(config))}
            with machine_plan.using(device, _table(kernel, name, config)):
                why = faults(kernel, name, config, arch(where)) or _wrong(problem, dtype, where)
                if why:
                    yield row | {"why": why[0]}
                    continue
                step = Step(problem, _PLACES[kernel][1], "triton", dtype, where)
                yield row | paired({"ms": step}, seconds, clock_of(where))


def _wrong(problem: Problem, dtype: torch.dtype, device: torch.device) -> list[str]:
    rows = [Check(problem, case, device).row("triton", dtype) for case in _CASES]
    return [row["why"] for row in rows if "why" in row]


def _problem(kernel: str) -> Problem:
    return next(each for each in PROBLEMS if each.name == _PLACES[kernel][0])


def _table(kernel: str, name: str, config: Config) -> Table:
    return Table("a configuration that is tried", tiles={f"{kernel} {name}": astuple(config)})
