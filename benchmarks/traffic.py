"""Bytes that each rank sends in a step, by method: measured in real gloo process groups beside the formula.

python -m benchmarks.traffic [--ranks 2 4] [--rows 32 128] [--widths 32 256] [--methods ega sp]
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from benchmarks.memory import forking_server
from graphkd import distributed
from graphkd.distillers.factory import create_distiller, distillers
from graphkd.features import Features

CLASSES, CHANNELS, SIDE, TOKENS = 10, (8, 16), (4, 2), 4
OPTIONS: dict[str, dict[str, Any]] = {
    "crg": {"k": 3},
    "hkd": {"num_samples": 4096, "negatives": 8, "width": 8},
    "combined": {"parts": {"kd": {}, "ega": {"teacher_head": "none"}}},
    "ega": {"teacher_head": "none"},
}
"""What a method cannot be built without; EGA's nodes of the width that is asked for."""


@dataclass(frozen=True)
class Case:
    """Sizes of a step: ranks, samples on each rank, width of both embeddings."""

    ranks: int
    rows: int
    width: int

    @property
    def samples(self) -> int:
        """Of the global batch."""
        return self.ranks * self.rows

    def nodes(self, width: int) -> float:
        """Both networks' nodes gathered, and the sum of the student's gradients: 16 (W - 1) n D bytes of float32."""
        return 16.0 * (self.ranks - 1) * self.rows * width

    def matrices(self, width: int, exchanges: int = 1) -> float:
        """Upper triangles of (2 D)^2 numbers summed: 8 (W - 1)/W D (2 D + 1) bytes each."""
        return exchanges * 8.0 * (self.ranks - 1) / self.ranks * width * (2 * width + 1)

    def squares(self, width: int, exchanges: int = 1) -> float:
        """Whichever of both is less."""
        return min(self.nodes(width), self.matrices(width, exchanges))


MAPS = [channels * side**2 for channels, side in zip(CHANNELS, SIDE, strict=True)]
FORMULAS: dict[str, Callable[[Case], float]] = {
    "cc": lambda case: case.nodes(case.width),
    "combined": lambda case: case.squares(case.width),
    "dist": lambda case: 56.0 * (case.ranks - 1) / case.ranks * CLASSES,
    "ega": lambda case: case.squares(case.width),
    "eikd": lambda case: case.squares(case.width, 2),
    "gkd": lambda case: sum(case.nodes(width + 1) for width in MAPS),
    "hkd": lambda case: case.nodes(8) * 1.5 + 8.0 * (case.ranks - 1) * case.rows * (CLASSES + 1),
    "irg": lambda case: sum(case.nodes(width) for width in (case.width, *MAPS)),
    "pkt": lambda case: case.nodes(case.width),
    "rkd": lambda case: case.nodes(case.width),
    "sp": lambda case: sum(case.squares(width, 2) for width in MAPS),
    "trg": lambda case: case.nodes(TOKENS * case.width) * 1.25,
}
"""Leading terms; methods that are not here relate no samples, and send counts and sums: tens of bytes."""


@dataclass(frozen=True)
class Sent:
    """Bytes that one rank sent, counted where they are handed to the collectives."""

    method: str
    case: Case
    counted: float

    @property
    def predicted(self) -> float:
        """The formula's leading terms."""
        return FORMULAS.get(self.method, lambda case: 0.0)(self.case)


def features(case: Case, seed: int) -> Features:
    """One network's view of a rank's samples."""
    draw = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    n = case.rows
    maps = {f"layer{i}": randn(n, c, s, s) for i, (c, s) in enumerate(zip(CHANNELS, SIDE, strict=True))}
    classes = randn(CLASSES, case.width), randn(CLASSES, CLASSES)
    return Features(randn(n, case.width), randn(n, CLASSES), *classes, maps, {"blocks": randn(n, TOKENS, case.width)})


def measure(method: str, case: Case) -> Sent:
    """One step of a method on this rank; the gradients of parameters, which DDP sums, are not in it."""
    student, teacher = features(case, 1).map_tensors(lambda x: x.requires_grad_()), features(case, 2)
    distiller = create_distiller(method, student, teacher, **OPTIONS.get(method, {}))
    beside = {"target": torch.arange(case.rows) % CLASSES, "index": torch.arange(case.rows)}
    with distributed.traffic() as found:
        distiller(student, teacher, **beside).total.backward()
    return Sent(method, case, found.total)


def _work(rank: int, cases: list[Case], methods: list[str], folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), cases[0].ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=cases[0].ranks)
    found = [vars(measure(method, case)) for method, case in product(methods, cases)]
    if rank == 0:
        torch.save([row | {"case": vars(row["case"])} for row in found], Path(folder) / "found.pt")
    dist.destroy_process_group()


def run(cases: Iterable[Case], methods: list[str]) -> Iterator[Sent]:
    """Measure methods at sizes, one process group for each number of ranks."""
    wanted = list(cases)
    forking_server()  # with everything imported, once for all ranks
    for ranks in sorted({case.ranks for case in wanted}):
        with tempfile.TemporaryDirectory() as folder:
            given = [case for case in wanted if case.ranks == ranks], methods, folder
            start_processes(_work, given, nprocs=ranks, start_method="forkserver")
            for row in torch.load(Path(folder) / "found.pt"):
                yield Sent(**(row | {"case": Case(**row["case"])}))


def table(rows: Iterable[Sent]) -> Iterator[str]:
    """Markdown."""
    yield "| method | ranks | global batch | width | predicted | counted |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        case = row.case
        yield (
            f"| {row.method} | {case.ranks} | {case.samples} | {case.width} | {row.predicted:,.0f} | "
            f"{row.counted:,.0f} |"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traffic", description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 128], help="samples on each rank")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--methods", nargs="+", default=distillers().names(), choices=distillers().names())
    given = parser.parse_args()
    cases = [Case(*sizes) for sizes in product(given.ranks, given.rows, given.widths)]
    for line in table(run(cases, given.methods)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
