"""python -m benchmarks.gpu --out DIR: on a machine with a GPU, its plan and the benchmark table, in two short runs.

``--run 1`` (the default, 5 minutes): versions and roofline, ``graphkd_kernels.tune``, memcheck of four kernels, and the
targets, triton then eager. ``--run 2`` (4 minutes): what failed before again, small sizes beside their CUDA graphs, the
targets, a training step. Each cell has a process of its own with a time limit, and every row is written as it comes.
Where there is no GPU it says so and changes nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from graphkd_kernels import machine_plan
from graphkd_kernels.targets import TARGETS, Target
from graphkd_kernels.tuning.run import tune
from graphkd_kernels.tuning.workers import rows_of

from benchmarks import gpu_cells
from benchmarks.case import Shape, cases, label
from benchmarks.machine import ROOT
from benchmarks.results import FOLDER, Results, Row

NAMED = 0.6  # of its target: what is below is named, with the reason
MINUTES = {1: 5.0, 2: 4.0}
TUNE = {1: 160.0, 2: 60.0}  # seconds
CELL, MEMCHECK = 20.0, 25.0  # seconds of one cell, of all of memcheck
SMALL = ("edge_sum", "edge_sum.huber", "edge_kl", "row_kl", "rkd_distance", "rkd_angle", "ega_sums", "unit_edge_sum")
CHECKED = "test_edge_sum or test_row_losses or test_rkd or test_knn"
Job = tuple[str, str, Shape, str, str]  # kind, case, shape, form, dtype


def targets() -> Iterator[Job]:
    """All of triton, then all of eager: what is cut off first is what is only divided by."""
    for form in ("triton", "eager"):
        for each in TARGETS:
            yield "target", each.case, each.shape, form, each.dtype


def small() -> Iterator[Job]:
    """The most used operations at the sizes of a training step."""
    for n in (64, 256, 1024):
        for name in SMALL:
            for form in ("triton", "eager"):
                if name != "rkd_angle" or n <= 256:
                    yield "small", name, (n, *cases()[name].shapes[0][1:]), form, "bfloat16"


def reached(row: Row, target: Target) -> float:
    """Share of the target: 1 is the target, more is faster; a launch-bound entry is judged by the wall clock."""
    ms: float = row["ms"] if target.bound == "launch" else min(row["ms"], row.get("graph_ms", row["ms"]))
    return target.target / (1e3 * ms)


class Run:
    """Rows as they come, within so many seconds.

    Args:
        out: folder of the rows. results: file of the table.
    """

    def __init__(self, out: Path, results: Results, seconds: float) -> None:
        self.out, self.results, self.end = out, results, monotonic() + seconds
        self.ours: dict[Any, Row] = {}

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - monotonic()

    def take(self, row: Row) -> None:
        """Keep a row, and of the later of two forms how they compare."""
        place = row.get("kind"), row.get("case"), row.get("shape"), row.get("dtype")
        if "ms" in row and row.get("form") == "triton":
            self.ours[place] = row
        elif "ms" in row and place in self.ours:
            self.results.add(self.ours[place] | {"over_eager": row["ms"] / self.ours[place]["ms"]})
        self.results.add(row)
        with (self.out / "table.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        text = f"{row['kind']:8}{row['case']:28}{row['shape']:>18} {row.get('form', ''):10}"
        print(text, row.get("ms", row.get("why", "")), flush=True)

    def jobs(self, jobs: Iterator[Job]) -> None:
        """Each in its own process; those that time does not allow are counted."""
        todo = list(jobs)
        for done, job in enumerate(todo):
            if self.left <= 0:
                print(f"{len(todo) - done} of {len(todo)} cells were not reached")
                return
            kind, name, shape, form, dtype = job
            at = {"kind": kind, "case": name, "shape": label(shape), "form": form, "dtype": dtype}
            self.rows(gpu_cells.cell, job, at)

    def rows(self, work: Callable[..., Iterator[Row]], arguments: tuple[Any, ...], at: Row) -> None:
        """The rows of one process; why it died is a row too."""
        for row in rows_of(work, arguments, CELL, min(CELL, max(self.left, 1.0))):
            if "died" in row or "cut" in row:
                self.take(at | {"on": "cuda", "why": row.get("died", f"it did not end within {CELL:.0f} s")})
            elif row["kind"] != "device":
                self.take(row)


def memcheck(seconds: float) -> str:
    """What compute-sanitizer says of four kernels, in words."""
    if shutil.which("compute-sanitizer") is None:
        return "memcheck: compute-sanitizer is not here"
    command = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "1", "--target-processes", "all"]
    command += [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not slow", "-k", CHECKED, "tests/kernels/triton"]
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, timeout=seconds, capture_output=True, text=True)
    except subprocess.TimeoutExpired as cut:
        return f"memcheck: not done within {seconds:.0f} s; so far\n{(cut.stdout or b'').decode()[-500:]}"
    return f"memcheck: exit code {done.returncode}\n{done.stdout[-1500:]}"


def again(out: Path) -> list[str]:
    """Operations that failed in the plan of run 1; all where there is none."""
    plan = out / "plan.json"
    if not plan.exists():
        return []
    failed = machine_plan.Table.of(machine_plan.read(plan), "").failures
    return list(dict.fromkeys(line.partition(",")[0] for line in failed))


def judged(rows: Sequence[Row]) -> list[str]:
    """A line for each target that was measured: its share, and a mark below ``NAMED``."""
    ours = {
        (row["case"], row["shape"], row["dtype"]): row
        for row in rows
        if row["kind"] == "target" and row["form"] == "triton" and "ms" in row
    }
    found = []
    for target in TARGETS:
        row = ours.get((target.case, label(target.shape), target.dtype))
        if row is not None:
            share = reached(row, target)
            found.append(f"{target.name:45}{share:6.2f} of its target{'' if share >= NAMED else '  <- say why'}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 2 without a GPU, 1 if a kernel is wrong there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=int, choices=(1, 2), default=1)
    parser.add_argument("--minutes", type=float, help="for everything (default 5 of run 1, 4 of run 2)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of all results (default benchmarks/results)")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured, and docs/performance-tables.md keeps its predictions")
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    start, seconds = monotonic(), 60 * (given.minutes or MINUTES[given.run])
    results = Results.today(gpu_cells.about(), given.out)
    run = Run(given.out, results, seconds)
    wrong: list[str] = []
    names = again(given.out) if given.run == 2 else []
    if given.run == 1 or names:
        found, path = tune(min(TUNE[given.run], 0.6 * run.left), names, given.out, partial(print, flush=True))
        wrong = found.failures
        print(*wrong, f"{found.checks} checks, {len(wrong)} failures, {found.seconds:.0f} s: {path}", sep="\n")
    if given.run == 1:
        print(memcheck(min(MEMCHECK, run.left)), flush=True)
    else:
        run.jobs(small())
    run.jobs(targets())
    if given.run == 2 and run.left > CELL:
        run.rows(gpu_cells.step, (256,), {"kind": "step", "case": "training step", "shape": "256"})
    print(*judged(results.rows), f"{(monotonic() - start) / 60:.1f} min: {results.path}", sep="\n")
    print("now: python -m benchmarks.report")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
