"""python -m benchmarks.compare REF: another version of the library beside this one, in one go.

Three processes run in turn, sample by sample: the other version, the same version once more, and this working tree; all
are started anew a few times, because a process keeps the luck of its memory layout. What the second differs from the
first is the noise; a case is flagged where this working tree is slower beyond it, in every start.
``REF`` is a git revision, or a folder that holds ``graphkd`` and ``kernels``. Exit code 1: something is flagged.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.case import Case, cases, label
from benchmarks.machine import ROOT
from benchmarks.worker import Worker

LEAST = 0.05  # what is slower by less is never flagged
ERRORS = 3.0  # standard errors that a slow-down must exceed
STARTS = 3  # of each process
Samples = Sequence[Sequence[float]]  # of each start, in ms


@dataclass(frozen=True)
class Verdict:
    """One case: this version's time over the other's, and the same for the other version run twice.

    Attributes:
        slower: ratio of the lower quartiles of both, median of the starts; 1.3 is 30 % slower.
        noise: relative difference that the same version shows to itself, from start to start and within one.
        flagged: slower than the noise allows, in every start.
        why: reason, where the case could not run.
    """

    case: str
    shape: str
    base_ms: float = 0.0
    slower: float = 1.0
    noise: float = 0.0
    flagged: bool = False
    why: str = ""


def judge(case: str, shape: str, base: Samples, again: Samples, new: Samples) -> Verdict:
    """From samples of each start that were taken in turn, in ms."""
    slower, error = _ratios(new, base)
    same, own_error = _ratios(again, base)
    ratio, spread = median(slower), max(abs(each - median(same)) for each in same)
    noise = abs(median(same) - 1) + spread + ERRORS * max(error, own_error)
    flagged = ratio - 1 > max(noise, LEAST) and min(slower) - 1 > LEAST
    return Verdict(case, shape, median(x for each in base for x in each), ratio, noise, flagged)


def _ratios(a: Samples, b: Samples, draws: int = 400) -> tuple[list[float], float]:
    """Ratios of the lower quartiles, which what disturbs a machine hardly moves, and the error of their mean."""
    draw, found, errors = np.random.default_rng(0), list[float](), list[float]()
    for x, y in zip(map(np.asarray, a), map(np.asarray, b), strict=True):
        picks = [np.quantile(z[draw.integers(len(z), size=(draws, len(z)))], 0.25, axis=1) for z in (x, y)]
        found.append(float(np.quantile(x, 0.25) / np.quantile(y, 0.25)))
        errors.append(float((picks[0] / picks[1]).std()))
    return found, float(np.linalg.norm(errors)) / len(errors)


def compare(base: Path, new: Path, chosen: Sequence[Case], rounds: int, threads: int, size: int = 0) -> list[Verdict]:
    """Verdicts of the cases.

    Args:
        base, new: folders with ``graphkd`` and ``kernels``.
        chosen: cases.
        rounds: samples of each process.
        threads: of torch.
        size: which of a case's shapes; 0 is the quick one.
    """
    shapes = [case.shapes[min(size, len(case.shapes) - 1)] for case in chosen]
    found: list[list[list[list[float]] | str]] = [[] for _ in chosen]
    for _ in range(STARTS):
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker(each, threads)) for each in (base, base, new)]
            for case, shape, answers in zip(chosen, shapes, found, strict=True):
                answers.append(_in_turn(workers, case, shape, -(-rounds // STARTS)))
    return [_verdict(case.name, label(shape), each) for case, shape, each in zip(chosen, shapes, found, strict=True)]


def _verdict(case: str, shape: str, starts: Sequence[list[list[float]] | str]) -> Verdict:
    times = list[list[list[float]]]()
    for each in starts:
        if isinstance(each, str):
            return Verdict(case, shape, why=each)
        times.append(each)
    return judge(case, shape, *zip(*times, strict=True))


def _in_turn(workers: Sequence[Worker], case: Case, shape: tuple[int, ...], rounds: int) -> list[list[float]] | str:
    """Samples of each worker, or why there are none."""
    request = {"case": case.name, "shape": list(shape), "form": "auto"}
    answers = [worker.ask(**request, repeats=0) for worker in workers]
    for version, answer in zip(("the other version", "the other version", "this version"), answers, strict=True):
        if "why" in answer:
            return f"{version}: {answer['why']}"
    repeats = max(answer["repeats"] for answer in answers)
    found: list[list[float]] = [[], [], []]
    for i in range(rounds):
        for j in range(3):
            which = (i + j) % 3  # nobody is always first
            found[which].append(workers[which].ask(**request, repeats=repeats)["ms"])
    return found


@contextmanager
def library_of(reference: str) -> Iterator[Path]:
    """The library of a folder, or of a git revision in a temporary one. Raises: SystemExit for neither."""
    if (Path(reference) / "graphkd").is_dir():
        yield Path(reference).resolve()
        return
    asked = subprocess.run(
        ["git", "archive", reference, "graphkd", "kernels"], cwd=ROOT, capture_output=True, check=False
    )
    if asked.returncode:
        sys.exit(f"{reference!r} is neither a folder with graphkd/ nor a git revision: {asked.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(asked.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def table(verdicts: Sequence[Verdict]) -> str:
    """A line for each case, the flagged ones first."""
    lines = [f"{'case':24}{'shape':>16}{'other ms':>11}{'ratio':>8}{'noise':>8}"]
    for each in sorted(verdicts, key=lambda v: (not v.flagged, bool(v.why), v.case)):
        if each.why:
            lines.append(f"{each.case:24}{each.shape:>16}  not compared: {each.why}")
        else:
            mark = "  SLOWER" if each.flagged else ""
            lines.append(f"{each.case:24}{each.shape:>16}{each.base_ms:11.3f}{each.slower:8.3f}{each.noise:7.1%}{mark}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", metavar="REF", help="git revision, or folder with graphkd/ and kernels/")
    parser.add_argument("--cases", help="names, joined by commas; default every operation and distiller")
    parser.add_argument("--rounds", type=int, default=60, help="samples of each version (default 60)")
    parser.add_argument("--threads", type=int, default=1, help="of torch; more scatter more (default 1)")
    parser.add_argument("--size", type=int, default=0, help="0 the quick shapes (default), 1 the next larger ones")
    parser.add_argument("--json", type=Path, help="write the verdicts here as well")
    given = parser.parse_args(arguments)
    known = cases()
    chosen = [known[name] for name in given.cases.split(",")] if given.cases else list(known.values())
    with library_of(given.reference) as base:
        verdicts = compare(base, ROOT, chosen, given.rounds, given.threads, given.size)
    print(table(verdicts))
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in verdicts], indent=1))
    flagged = [each.case for each in verdicts if each.flagged]
    print(f"\n{len(flagged)} of {len(verdicts)} slower than {given.reference} beyond the noise {', '.join(flagged)}")
    return bool(flagged)


if __name__ == "__main__":
    sys.exit(main())
