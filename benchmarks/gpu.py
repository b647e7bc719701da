"""python -m benchmarks.gpu: on a machine with a GPU, correctness, then targets, then the suite, in one command.

Ends within ``--minutes`` (default 8): what was not reached is counted, and what was measured is kept. Where there is no
GPU it says so and changes nothing.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from time import monotonic

import torch

from benchmarks import machine
from benchmarks.case import Case, Shape, UnavailableError, cases
from benchmarks.cell import key, measure
from benchmarks.check import WrongResultError
from benchmarks.results import Results, Row
from benchmarks.targets import TARGETS, Target
from benchmarks.training_step import measure as training_step

MOST_MIB, TESTS_SHARE, BUDGET = 16, 0.3, 0.1
Job = tuple[str, Case, Shape, str, str]  # kind, case, shape, form, dtype


def correct(seconds: float) -> bool:
    """Whether the tests of the kernels pass on the GPU, those of Triton's first; they have a share of the time."""
    folders = [each for each in ("tests/kernels/triton", "tests/kernels") if (machine.ROOT / each).is_dir()]
    command = [sys.executable, "-m", "pytest", *folders, "-q", "-x", "-m", "gpu or not slow", "-p", "no:cacheprovider"]
    try:
        code = subprocess.run(command, cwd=machine.ROOT, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"the tests on the GPU did not end within {seconds:.0f} s: none has failed so far")
        return True
    return code == 0


def jobs() -> Iterator[Job]:
    """Targets first, fused forms before the others; then every operation and distiller at its largest usual shape."""
    known = cases()
    for form in ("triton", "eager", "compile"):
        for each in TARGETS:
            if form != "compile" or each.shape[0] == 8192:
                yield "target", known[each.case], each.shape, form, each.dtype
    for case in known.values():
        for form in ("eager", "triton", "official", *case.peers, "blocked"):
            yield case.kind, case, case.shapes[-1], form, "float32"


def run(job: Job) -> Row:
    """A row, with the reason where there is no number."""
    kind, case, shape, form, dtype = job
    try:
        row = measure(case, shape, form, "cuda", dtype, BUDGET)
    except (UnavailableError, WrongResultError, torch.OutOfMemoryError) as why:
        row = key(case, shape, form, "cuda", dtype) | {"why": str(why).splitlines()[0]}
    torch.cuda.empty_cache()
    return row | {"kind": kind}


def reached(row: Row, target: Target) -> float:
    """Share of the target: 1 is the target, more is faster; a launch-bound entry is judged by the wall clock."""
    ms: float = row["ms"] if target.bound == "launch" else min(row["ms"], row.get("graph_ms", row["ms"]))
    return target.target / (1e3 * ms)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 2 without a GPU, 1 if the tests on it fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (default 8)")
    parser.add_argument("--no-tests", action="store_true", help="leave out the tests")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured, and docs/performance.md keeps its predictions")
        return 2
    start, seconds = monotonic(), 60 * given.minutes - 15  # the last cell may take a while
    if not given.no_tests and not correct(TESTS_SHARE * seconds):
        print("the tests fail on this GPU: nothing is timed")
        return 1
    results, todo, eager = Results.today(machine.environment("cuda", torch.get_num_threads())), list(jobs()), {}
    done = 0
    for job in todo:
        if monotonic() - start > seconds:
            break
        row, done = run(job), done + 1
        place = row["kind"], row["case"], row["shape"], row["dtype"]
        if "ms" in row:
            if row["form"] == "eager":
                eager[place] = row["ms"]
            elif place in eager:
                row["over_eager"] = eager[place] / row["ms"]
        results.add(row)
        print(f"{row['kind']:8}{row['case']:28}{row['shape']:>18} {row['form']:10}", row.get("ms", row.get("why")))
    if monotonic() - start < seconds - 30:
        results.add(training_step(256, "cuda"))
    size = results.path.stat().st_size / 2**20
    print(f"{done} of {len(todo)} cells, {(monotonic() - start) / 60:.1f} min, {size:.2f} MiB: {results.path}")
    assert size < MOST_MIB
    print("now: python -m benchmarks.report")
    return 0


if __name__ == "__main__":
    sys.exit(main())
