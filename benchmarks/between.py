"""python -m benchmarks.between: what 'auto' loses at sizes between those at which the plan in force was measured.

Each pair of neighbouring sizes has one between them (the geometric mean); ``--widths`` asks for other widths than the
measured one as well. Backends take turns, in pairs. A choice that looks more than 10 % slower than the best backend is
measured again at the end, four times as long, and that counts: one burst of other work on the machine is no finding.
Exit code 1 where a choice is still slower.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path

import torch
from graphkd_kernels import dispatch
from graphkd_kernels.plans import Shape
from graphkd_kernels.tuning.problems import PROBLEMS, Problem
from graphkd_kernels.tuning.timing import Step, clock_of, paired

from benchmarks.case import label
from benchmarks.results import Row

MOST = 1.10
AGAIN = 4  # times as long
SLOW_MS = 400.0  # of all backends of a size: larger ones say nothing new


def shapes(problem: Problem, widths: Sequence[int]) -> Iterator[Shape]:
    """Sizes between those of the grid, and at other widths all of them."""
    for (n, d), (m, e) in pairwise(problem.grid):
        yield round(sqrt(n * m)), round(sqrt(d * e))
        for width in widths:
            yield n, width


def measured(problem: Problem, shape: Shape, seconds: float) -> Row:
    """Milliseconds by backend, the choice, and how much slower it is than the best."""
    device = torch.device("cpu")
    tensors = problem.tensors(shape, device)
    signature = tuple(x.shape if isinstance(x, torch.Tensor) else x for x in (*tensors, *problem.arguments(shape[0])))
    plan = dispatch.choose(problem.operation, signature, torch.float32, "cpu")
    steps = {name: Step(problem, shape, name, torch.float32, device) for name in ("eager", "blocked")}
    ms = paired(steps, seconds, clock_of(device))
    slower = ms[plan.backend] / min(ms.values())
    about: Row = {"problem": problem.name, "shape": label(shape), "size": plan.size, "chosen": plan.backend}
    return about | {"ms": ms, "slower": slower}


def swept(problems: Sequence[Problem], widths: Sequence[int], seconds: float) -> Iterator[tuple[Problem, Shape, Row]]:
    """Every size, until one of a problem is slow."""
    for problem in problems:
        for shape in shapes(problem, widths):
            row = measured(problem, shape, seconds)
            yield problem, shape, row
            if sum(row["ms"].values()) > SLOW_MS:
                break


def show(row: Row) -> None:
    """A row in words."""
    times = "  ".join(f"{name} {ms:8.3f}" for name, ms in row["ms"].items())
    mark = "  <- slower" if row["slower"] > MOST else ""
    print(f"{row['problem']:40}{row['shape']:>12} {row['chosen']:8}{times}  {row['slower']:.2f}{mark}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="*", default=[], help="other widths as well")
    parser.add_argument("--seconds", type=float, default=0.5, help="of all backends at one size")
    parser.add_argument("--only", default="", help="one operation")
    parser.add_argument("--out", type=Path, help="write the rows here")
    given = parser.parse_args(arguments)
    problems = [each for each in PROBLEMS if given.only in ("", each.operation)]
    rows, suspects = [], []
    for problem, shape, row in swept(problems, given.widths, given.seconds):
        show(row)
        rows.append(row)
        suspects += [(problem, shape)] if row["slower"] > MOST else []
    again = [measured(*each, AGAIN * given.seconds) for each in suspects]
    if again:
        print("measured again, longer:")
    for row in again:
        show(row)
    worse = sum(row["slower"] > MOST for row in again)
    if given.out:
        given.out.write_text(json.dumps([*rows, *again], indent=1), encoding="utf-8")
    print(f"{len(rows)} sizes, {worse} more than 10 % slower than their best backend")
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
