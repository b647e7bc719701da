"""How fast a store is written and read, beside a file for each sample and a bare memory map; and how fast we start."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.stand_in import CLASSES, WIDTH, store

COLUMNS, BATCH = WIDTH + CLASSES, 256
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


def rates(samples: int) -> dict[str, Any]:
    """Samples per second, written and read in random batches of 256, of three ways to keep teacher features."""
    row: dict[str, Any] = {"kind": "storage", "case": "store", "shape": str(samples)}
    rows = torch.randn(samples, COLUMNS)
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    batches = list(order.split(BATCH))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        opened = store(folder / "warm", BATCH)
        opened[batches[0] % BATCH]
        start = perf_counter()
        opened = store(folder / "store", samples)
        row["store_write_s"] = samples / (perf_counter() - start)
        row["store_read_s"] = samples / _seconds(lambda: [opened[batch] for batch in batches])
        row["files_write_s"] = samples / _seconds(lambda: _save_each(folder, rows))
        row["files_read_s"] = samples / _seconds(lambda: [_load_each(folder, batch) for batch in batches])
        row["npy_write_s"] = samples / _seconds(lambda: np.save(folder / "rows.npy", rows.numpy()))
        mapped = np.load(folder / "rows.npy", mmap_mode="r")
        row["npy_read_s"] = samples / _seconds(lambda: [torch.from_numpy(mapped[b.numpy()]) for b in batches])
    return row


def _seconds(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _save_each(folder: Path, rows: torch.Tensor) -> None:
    for i, row in enumerate(rows):
        torch.save(row.clone(), folder / f"{i}.pt")  # clone: else the whole storage is saved each time


def _load_each(folder: Path, batch: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.load(folder / f"{i}.pt", weights_only=True) for i in batch.tolist()])


def starts(repeats: int = 2) -> Iterator[tuple[str, float]]:
    """Milliseconds of a fresh interpreter, by what it does: the least of several."""
    for name, code in STARTS.items():
        command = [sys.executable, "-W", "ignore", "-c", code]
        yield name, min(_seconds(lambda c=command: subprocess.run(c, check=True)) for _ in range(repeats)) * 1e3
