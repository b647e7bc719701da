"""What a run shows on the way: each term's share of the gradient, and the CPU seconds that each epoch took."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from graphkd import Batch, Features, Losses, Step
from graphkd.chunks import preserve_buffers
from graphkd.distillers.base import same_update
from graphkd.training.gradient_shares import gradient_shares

BATCHES = 5
Fixed = Sequence[tuple[Batch, Features | None]]


def cpu_seconds() -> float:
    """Of this process and of the children that it waited for, on all cores."""
    known = os.times()
    return time.process_time() + known.children_user + known.children_system


class Observer:
    """Watches the step of a run: it counts the images that train, and at 0, 50 and 100 % asks how the terms pull.

    Nothing in the run moves: buffers, schedules and random numbers stay, and the time that it takes is not counted.

    Args:
        step: of the run.
        batches: five fixed batches with the teacher's features, on the device.
        images: of an epoch, whole batches only.
        epochs: of the run.
        precision: of the networks, as of a recipe.
    """

    def __init__(self, step: Step, batches: Fixed, images: int, epochs: int, precision: str) -> None:
        self.step, self.batches, self.images, self.epochs, self.precision = step, batches, images, epochs, precision
        self.seen, self.busy, self.apart, self.apart_cpu = 0, False, 0.0, 0.0
        self.found: list[dict[str, float]] = []
        self.epochs_cpu: list[float] = []
        self.begun, self.begun_cpu = time.perf_counter(), cpu_seconds()
        self._hook = step.register_forward_pre_hook(self._before)

    @torch.compiler.disable
    def _before(self, step: Any, args: tuple[Any, ...]) -> None:
        """Before each batch of training."""
        if self.busy:
            return
        if self.seen % self.images == 0 and self.seen:
            self.epochs_cpu.append(self.cpu())
        if len(self.found) < 2 and self.seen >= len(self.found) * self.images * self.epochs / 2:
            self._look()
        self.seen += len(args[0])

    def cpu(self) -> float:
        """CPU seconds of the run so far, scorings included."""
        return cpu_seconds() - self.begun_cpu - self.apart_cpu

    def seconds(self) -> float:
        """Likewise by the clock."""
        return time.perf_counter() - self.begun - self.apart

    def end(self) -> None:
        """After the last update."""
        self._hook.remove()
        self.epochs_cpu.append(self.cpu())
        self._look()

    def _look(self) -> None:
        clock, cpu = time.perf_counter(), cpu_seconds()
        self.busy, was = True, self.step.training
        self.step.train()
        try:
            self.found.append(mean_shares(self.step, self.batches, self.precision))
        finally:
            self.busy = False
            self.step.train(was)
        self.apart += time.perf_counter() - clock
        self.apart_cpu += cpu_seconds() - cpu

    def shares(self) -> dict[str, list[float]]:
        """Term -> its share at the start, in the middle and at the end."""
        return {term: [round(each[term], 4) for each in self.found] for term in self.found[0]}

    def curve(self, scored: Sequence[tuple[int, float]]) -> list[list[float]]:
        """(epoch, CPU seconds until then, top-1 in per cent) of each scoring."""
        return [[epoch, round(self.epochs_cpu[epoch - 1], 1), 100 * top1] for epoch, top1 in scored]


def mean_shares(step: Step, batches: Fixed, precision: str) -> dict[str, float]:
    """Each term's share of the gradient over the parameters that all terms reach, mean over the batches."""
    found = []
    device = next(step.parameters()).device.type
    with preserve_buffers(step), same_update(step), torch.random.fork_rng(devices=[]):
        for batch, features in batches:
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                losses = Losses(step(batch.student, features, target=batch.target, index=batch.index))
            found.append(gradient_shares(losses, step.student.parameters()))
    return {term: sum(each[term] for each in found) / len(found) for term in found[0]}


def fixed_batches(views: Any, size: int, look: Callable[[Batch], Features] | None) -> Fixed:
    """Five batches of a run's own training views, the same for every method of a seed."""
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0))[: BATCHES * size]
    batches = [views.batch(0, index) for index in order.chunk(BATCHES)]
    return [(batch, None if look is None else look(batch).to(batch.student.device)) for batch in batches]
