"""What a run would cost: a few updates are made and measured, nothing is written."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from graphkd.data.views import Batch
from graphkd.training.checkpoint import pack
from graphkd.training.loop import Trainer

_UPDATES = 4  # that are made; the first warms up and is not measured
_CHECKPOINTS = 3  # that may lie on the disk at one time


@dataclass(frozen=True)
class Forecast:
    """The cost of a run on this device, from measured updates.

    Args:
        updates: of the whole run.
        reading, teaching, learning: seconds an update takes to wait for its images, to ask the teacher, and to train.
        scoring: seconds of all scorings together.
        memory: bytes at most, of the GPU, or of this process on a CPU; ``None`` where the system does not tell.
        available: bytes that the GPU has; ``None`` on a CPU.
        disk: bytes of the checkpoints.
        parameters: of the student, as many as are trained.
        device: where it was measured.
        terms: names of the loss terms.
    """

    updates: int
    reading: float
    teaching: float
    learning: float
    scoring: float
    memory: int | None
    available: int | None
    disk: int
    parameters: int
    device: str
    terms: tuple[str, ...]

    def seconds(self, updates: int | None = None, teaching: bool = True) -> float:
        """Of training and scoring.

        Args:
            updates: that are left; default all.
            teaching: off where the teacher's answers come from a store.
        """
        left = self.updates if updates is None else updates
        each = self.reading + self.learning + (self.teaching if teaching else 0.0)
        return left * each + self.scoring * left / self.updates


def forecast(trainer: Trainer) -> Forecast:
    """Make a few updates of a run and measure them; the trainer is used up, and nothing is written.

    Args:
        trainer: of one process.

    Raises: what :meth:`graphkd.training.loop.Trainer.fit` raises in its first updates, but for a run folder.
    Example: ``forecast(Trainer(step, views, features, config, "runs/one")).seconds()``
    """
    device = trainer.device
    trainer.used_up = True
    trainer.step.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    measured = [_update(trainer, batches, number) for number, batches in enumerate(islice(_batches(trainer), _UPDATES))]
    measured = measured[1:] or measured
    reading, teaching, learning = (sum(each) / len(measured) for each in zip(*measured, strict=True))
    _, tensors = pack(trainer.updater.state())
    return Forecast(
        updates=trainer.updates,
        reading=reading,
        teaching=teaching,
        learning=learning,
        scoring=_scoring(trainer, reading),
        memory=_memory(device),
        available=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
        disk=_CHECKPOINTS * sum(tensor.nbytes for tensor in tensors.values()),
        parameters=sum(each.numel() for each in trainer.step.student.parameters() if each.requires_grad),
        device=str(device),
        terms=tuple(name for name in trainer.meter.sums if name != "gradient"),
    )


def _batches(trainer: Trainer) -> Iterator[list[tuple[Batch, float]]]:
    """The batches of each update and the seconds that they were waited for, epoch after epoch."""
    epoch = 0
    while True:
        trainer.loader.batch_sampler.set_epoch(epoch, 0)
        loaded, size = iter(trainer.loader), trainer.config.accumulate
        while update := list(islice(_timed(loaded), size)):
            yield update
        epoch += 1


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    while True:
        before = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - before


def _update(trainer: Trainer, batches: list[tuple[Batch, float]], number: int) -> tuple[float, float, float]:
    """Seconds of reading, teaching and learning in one update."""
    reading, teaching, start = sum(seconds for _, seconds in batches), 0.0, time.perf_counter()
    for place, (batch, _) in enumerate(batches):
        before = time.perf_counter()
        inputs = trainer.inputs(batch.to(trainer.device), place)
        _wait(trainer.device)
        teaching += time.perf_counter() - before
        trainer.backward(trainer.step, batch.to(trainer.device), inputs, place, len(batches))
    trainer.updater.update(number, trainer.meter, trainer.ranks.everywhere)
    _wait(trainer.device)
    return reading, teaching, time.perf_counter() - start - teaching


@torch.no_grad()
def _scoring(trainer: Trainer, reading: float) -> float:
    """Seconds of all scorings: the student asked about one batch, and reading as in training."""
    if not trainer.scored:
        return 0.0
    batch, config = next(iter(trainer.scored)), trainer.config
    model = trainer.model.eval()
    before = time.perf_counter()
    model(batch.student.to(trainer.device))
    _wait(trainer.device)
    each = time.perf_counter() - before + reading * len(batch) / (config.batch_size * config.accumulate)
    return each * len(trainer.scored) * -(-config.epochs // config.evaluate_every)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> int | None:
    """Bytes at the peak."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
