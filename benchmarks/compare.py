"""python -m benchmarks.compare REF: another version of the library beside this one, in one go.

Three processes run in turn, sample by sample: the other version, the same version once more, and this working tree.
What the second differs from the first is the noise; a case is flagged where this working tree is slower beyond it.
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


@dataclass(frozen=True)
class Verdict:
    """One case: this version's time over the other's, and the same for the other version run twice.

    Attributes:
        slower: ratio of the lower quartiles of both; 1.3 is 30 % slower.
        noise: relative difference that the same version shows to itself, its standard error included.
        flagged: slower than the noise allows.
        why: reason, where the case could not run.
    """

    case: str
    shape: str
    base_ms: float = 0.0
    slower: float = 1.0
    noise: float = 0.0
    flagged: bool = False
    why: str = ""


def judge(case: str, shape: str, base: Sequence[float], again: Sequence[float], new: Sequence[float]) -> Verdict:
    """From samples that were taken in turn, in ms."""
    slower, error = _ratio(new, base)
    same, own_error = _ratio(again, base)
    noise = abs(same - 1) + ERRORS * max(error, own_error)
    return Verdict(case, shape, median(base), slower, noise, slower - 1 > max(noise, LEAST))


def _ratio(a: Sequence[float], b: Sequence[float], draws: int = 400) -> tuple[float, float]:
    """Ratio of the lower quartiles, which what disturbs a machine hardly moves, and its error by the bootstrap."""
    x, y, draw = np.asarray(a), np.asarray(b), np.random.default_rng(0)
    picks = [np.quantile(each[draw.integers(len(each), size=(draws, len(each)))], 0.25, axis=1) for each in (x, y)]
    return float(np.quantile(x, 0.25) / np.quantile(y, 0.25)), float((picks[0] / picks[1]).std())


def compare(base: Path, new: Path, chosen: Sequence[Case], rounds: int, threads: int, size: int = 0) -> list[Verdict]:
    """Verdicts of the cases.

    Args:
        base, new: folders with ``graphkd`` and ``kernels``.
        chosen: cases.
        rounds: samples of each process.
        threads: of torch.
        size: which of a case's shapes; 0 is the quick one.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(each, threads)) for each in (base, base, new)]
        return [_one(workers, case, case.shapes[min(size, len(case.shapes) - 1)], rounds) for case in chosen]


def _one(workers: Sequence[Worker], case: Case, shape: tuple[int, ...], rounds: int) -> Verdict:
    request = {"case": case.name, "shape": list(shape), "form": "auto"}
    answers = [worker.ask(**request, repeats=0) for worker in workers]
    for version, answer in zip(("the other version", "the other version", "this version"), answers, strict=True):
        if "why" in answer:
            return Verdict(case.name, label(shape), why=f"{version}: {answer['why']}")
    repeats = max(answer["repeats"] for answer in answers)
    found: list[list[float]] = [[], [], []]
    for i in range(rounds):
        for j in range(3):
            which = (i + j) % 3  # nobody is always first
            found[which].append(workers[which].ask(**request, repeats=repeats)["ms"])
    return judge(case.name, label(shape), *found)


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
    parser.add_argument("--threads", type=int, default=2)
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
