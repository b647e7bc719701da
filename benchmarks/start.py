"""How long a fresh interpreter takes to import the library, and to the end of a first step."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from benchmarks.stand_in import CLASSES, WIDTH

FIRST_STEP = f"""
import torch
from graphkd import Features, PRGDistiller
def features(width):
    return Features(torch.randn(64, width, requires_grad=True), torch.randn(64, {CLASSES}, requires_grad=True),
                    torch.randn({CLASSES}, width), torch.randn({CLASSES}, {CLASSES}))
PRGDistiller({WIDTH}, 768, {CLASSES})(features({WIDTH}), features(768).detach()).total.backward()
"""
STARTS = {
    "python": "pass",
    "torch": "import torch",
    "import": "import graphkd",
    "import_prg": "from graphkd import PRGDistiller",
    "first_step": FIRST_STEP,
}


def _seconds(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def starts(repeats: int = 2) -> Iterator[tuple[str, float]]:
    """Milliseconds of a fresh interpreter, by what it does: the least of several."""
    for name, code in STARTS.items():
        command = [sys.executable, "-W", "ignore", "-c", code]
        yield name, min(_seconds(lambda c=command: subprocess.run(c, check=True)) for _ in range(repeats)) * 1e3
