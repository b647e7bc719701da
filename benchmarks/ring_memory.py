"""Memory of a step on each rank, with gathered nodes and with blocks that pass: real gloo processes on the CPU.

python -m benchmarks.ring_memory [--ranks 4] [--samples 16384] [--width 256] [--methods pkt rkd]

Each line is a group of fresh processes that run a small step first; the growth is that of the kernel's high-water mark
of the resident set over a step, forward and backward, above what the process held with its features made.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from benchmarks.memory import CLEAR, status
from benchmarks.traffic import OPTIONS, PASSING, WITHOUT_GATHERING
from graphkd import distributed
from graphkd.distillers.factory import create_distiller
from graphkd.features import Features

GATHERED, PASSED = "gathered", "passing"
_NEVER = 2**62  # bytes: nothing is as large


def _step(method: str, rows: int, width: int) -> tuple[float, float]:
    """MiB of growth and seconds."""
    student = Features(torch.randn(rows, width, requires_grad=True))
    teacher = Features(torch.randn(rows, width))
    options = OPTIONS.get(method, {}) | WITHOUT_GATHERING.get(method, {})
    distiller = create_distiller(method, student, teacher, **options)
    dist.barrier()
    held, began = status("VmRSS"), time.perf_counter()
    CLEAR.write_text("5")
    distiller(student, teacher).total.backward()
    dist.barrier()
    return (status("VmHWM") - held) / 1024, time.perf_counter() - began


def _work(rank: int, ranks: int, method: str, form: str, rows: int, width: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    with distributed.gather_limit(0 if form == PASSED else _NEVER):
        _step(method, 16, width)
        found = _step(method, rows, width)
    every = [torch.empty(2, dtype=torch.float64) for _ in range(ranks)]
    dist.all_gather(every, torch.tensor(found, dtype=torch.float64))
    if rank == 0:
        torch.save(torch.stack(every).amax(0), Path(folder) / "found.pt")
    dist.destroy_process_group()


def measured(ranks: int, method: str, form: str, samples: int, width: int) -> tuple[float, float]:
    """Largest growth in MiB and longest step in seconds of all ranks."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_work, (ranks, method, form, samples // ranks, width, folder), nprocs=ranks)
        growth, seconds = torch.load(Path(folder) / "found.pt").tolist()
    return growth, seconds


def table(ranks: int, samples: int, width: int, methods: list[str]) -> Iterator[str]:
    """Markdown."""
    yield "| method | ranks | global batch | width | nodes | growth of a rank, MiB | seconds |"
    yield "|---|---|---|---|---|---|---|"
    for method, form in product(methods, (GATHERED, PASSED)):
        growth, seconds = measured(ranks, method, form, samples, width)
        yield f"| {method} | {ranks} | {samples:,} | {width} | {form} | {growth:,.0f} | {seconds:.1f} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ring_memory", description=__doc__)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--samples", type=int, default=16384, help="of all ranks")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--methods", nargs="+", default=["pkt", "rkd"], choices=sorted(PASSING))
    given = parser.parse_args()
    for line in table(given.ranks, given.samples, given.width, given.methods):
        print(line, flush=True)


if __name__ == "__main__":
    main()
