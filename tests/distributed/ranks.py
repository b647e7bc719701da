"""Gloo processes that tests send jobs to: started once for each number of them, with torch imported once."""

import faulthandler
import io
import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tests.faults.jobs import server

PATIENCE = 120  # seconds that a rank waits for the others, and a test for a rank's answer to begin
WORLDS = (2, 4)
SAMPLES = 12
SHARES = {
    (2, "even"): (6, 6),
    (2, "uneven"): (9, 3),
    (4, "even"): (3, 3, 3, 3),
    (4, "uneven"): (5, 1, 2, 4),
}


def own_rows(split: str) -> slice:
    """This rank's samples of the batch; all of them without a process group."""
    if not dist.is_initialized():
        return slice(0, SAMPLES)
    sizes, rank = SHARES[dist.get_world_size(), split], dist.get_rank()
    return slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest expected value; where all are 0, the largest value found."""
    assert found.shape == expected.shape
    if not found.numel():
        return 0.0
    scale = float(expected.abs().max())
    return float((found - expected).abs().max()) / (scale if scale > 1e-12 else 1.0)


class Ranks:
    """Processes with one gloo group.

    Args:
        world: how many.
        folder: where they meet.
    """

    def __init__(self, world: int, folder: Path) -> None:
        context = server()
        self.pipes, self.processes, self.folder = [], [], folder
        for rank in range(world):
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=_serve, args=(theirs, rank, world, str(folder)), daemon=True))
            self.processes[-1].start()
            theirs.close()
            self.pipes.append(ours)

    def __call__(self, job: Callable[..., Any], *given: Any) -> list[Any]:
        """What ``job(*given)`` returns on each rank; the first error of a rank fails the test and ends all."""
        for pipe in self.pipes:
            pipe.send((job, given))
        answers: dict[int, Any] = {}
        while len(answers) < len(self.pipes):
            ready = wait([pipe for rank, pipe in enumerate(self.pipes) if rank not in answers], 2 * PATIENCE)
            assert ready, f"ranks {sorted(set(range(len(self.pipes))) - set(answers))} do not answer"
            for pipe in ready:
                rank = self.pipes.index(pipe)
                done, answers[rank] = torch.load(io.BytesIO(self._received(rank)))  # no pickle, as everywhere
                assert done, f"rank {rank}: {answers[rank]}"
        return [answers[rank] for rank in range(len(self.pipes))]

    def _received(self, rank: int) -> bytes:
        try:
            return self.pipes[rank].recv_bytes()
        except EOFError:
            self.processes[rank].join(5)
            code, said = self.processes[rank].exitcode, (self.folder / f"rank{rank}").read_text()
            raise AssertionError(f"rank {rank} of {len(self.pipes)} ended with code {code}: {said}") from None

    def end(self) -> None:
        """No process is left."""
        for process in self.processes:
            process.kill()
            process.join()


def _serve(pipe: Any, rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    faulthandler.enable((Path(folder) / f"rank{rank}").open("w"))
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}  # accelerate looks there
    os.environ.update({name: str(value) for name, value in place.items()}, ACCELERATE_USE_CPU="true")
    how = {"rank": rank, "world_size": world, "timeout": timedelta(seconds=PATIENCE)}
    dist.init_process_group("gloo", f"file://{folder}/meeting", **how)
    while True:
        job, given = pipe.recv()
        try:
            answer = (True, job(*given))
        except BaseException:
            answer = (False, traceback.format_exc())
        written = io.BytesIO()
        torch.save(answer, written)
        pipe.send_bytes(written.getvalue())
