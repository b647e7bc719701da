"""python -m benchmarks.refusals: seconds that wrong command lines take to be refused, each in a process of its own.

Twenty kinds of mistakes, from a typo in a command to missing weights. Each must end with exit code 2, in two lines,
without leaving a file behind, and within ``--limit`` seconds; else the exit code is 1. Seconds of the clock
depend on what else the machine does, seconds of the processor hardly.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from PIL import Image

from benchmarks.machine import ROOT

_IN = "distill --data photos --teacher ViT-B-32 --pretrained openai"
REFUSALS = {  # kind of mistake: command, and what the first line says
    "a command": ("distil --data photos", 'Did you mean "distill"'),
    "an option": (f"{_IN} --epcohs 3", "Did you mean --epochs"),
    "a number": (f"{_IN} --epochs ten", "expects a whole number"),
    "a range": (f"{_IN} --lr -1", "must be > 0"),
    "a choice": (f"{_IN} --augment crpo", 'Did you mean "crop"'),
    "a method": (f"{_IN} --method prq", 'Did you mean "prg"'),
    "an option of a method": (f"{_IN} --method prg --set rhoo=1", "did you mean 'rho'"),
    "a student": (f"{_IN} --student resnet81", "did you mean 'resnet18'"),
    "a teacher": ("distill --data photos --teacher ViT-B-23 --pretrained openai", "did you mean 'ViT-B-32'"),
    "a classifier": ("embed --data photos --out x --teacher timm:resnet81 --pretrained default", "unknown teacher"),
    "a tag": ("embed --data photos --out x --teacher ViT-B-32 --pretrained opnai", "did you mean 'openai'"),
    "no weights": ("embed --data photos --out x --teacher ViT-B-32", "has no weights yet"),
    "missing weights": ("embed --data photos --out x --teacher ViT-B-32 --pretrained no.pt", "there is no file"),
    "an optimiser": (f"{_IN} --optimizer admw", "did you mean 'adamw'"),
    "a tracker": (f"{_IN} --trackers tensorbord", "did you mean 'tensorboard'"),
    "a missing folder": ("embed --data nowhere --out x --teacher ViT-B-32 --pretrained openai", "there is no folder"),
    "an empty folder": ("embed --data empty --out x --teacher ViT-B-32 --pretrained openai", "no image"),
    "no class names": ("embed --data loose --out x --teacher ViT-B-32 --pretrained openai", "tells classes apart"),
    "a file of options": ("distill --config typo.yaml", "unknown option 'epcohs'"),
    "a run folder": ("evaluate --data photos --model nowhere", "is no run folder"),
}  # fmt: skip


class Refused(NamedTuple):
    """How a command ended: seconds of the clock and of the processor, and what is wrong with its end."""

    seconds: float
    cpu: float
    fault: str


def place(folder: Path) -> None:
    """Images in two classes, loose ones, an empty folder, and a file of options."""
    for name in ("photos/cat/1.png", "photos/dog/1.png", "loose/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    (folder / "empty").mkdir()
    (folder / "typo.yaml").write_text("epcohs: 3\n")


def refused(line: str, says: str, folder: Path, environment: Mapping[str, str]) -> Refused:
    """One command in a process of its own."""
    before, spent, start = sorted(folder.rglob("*")), os.times(), perf_counter()
    command = [sys.executable, "-m", "graphkd.cli", *shlex.split(line)]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds, after = perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - spent.children_user - spent.children_system
    said = run.stderr.splitlines()
    faults = {
        f"exit code {run.returncode}": run.returncode != 2,
        f"{len(said)} lines": len(said) != 2,
        "other words": not said or says not in said[0],
        "litter": sorted(folder.rglob("*")) != before,
    }
    return Refused(seconds, cpu, ", ".join(name for name, there in faults.items() if there))


def main(arguments: Sequence[str] | None = None) -> int:
    """A line for each kind, as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=3.0, help="seconds of the clock")
    parser.add_argument("--only", help="kinds whose name contains this")
    given = parser.parse_args(arguments)
    slowest, failed = 0.0, 0
    path = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    kinds = {kind: each for kind, each in REFUSALS.items() if given.only is None or given.only in kind}
    print(f"{'':24}{'seconds':>9}{'CPU':>7}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place(folder)
        environment = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": f"{name}-cache"}
        for kind, (line, says) in kinds.items():
            found = refused(line, says, folder, environment)
            slow = found.seconds > given.limit
            slowest, failed = max(slowest, found.seconds), failed + bool(found.fault or slow)
            fault = found.fault or ("too slow" if slow else "")
            print(f"{kind:24}{found.seconds:9.2f}{found.cpu:7.2f}  {fault}", flush=True)
    print(f"{len(kinds)} kinds, the slowest {slowest:.2f} s, {failed} not as they should be")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
