"""What distillation costs in a training step: ResNet-18 on 32 x 32 images, PRG and EGA, stored and live teacher."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.stand_in import CLASSES, SCALE, cifar_resnet18, live_teacher, prompt_texts, store
from benchmarks.timing import interleaved
from graphkd import EGADistiller, Features, PRGDistiller
from graphkd.distillers.base import Distiller
from graphkd.teachers.prompts import prompt_logits

LIVE_BATCH = 16
METHODS: dict[str, type[Distiller]] = {"prg": PRGDistiller, "ega": EGADistiller}


class Training:
    """A student, a store and the steps that are raced.

    Args:
        folder: place of the store.
        batch: images of a step.
        device: where the student is.
    """

    def __init__(self, folder: Path, batch: int, device: str) -> None:
        torch.manual_seed(0)
        self.device, self.batch = torch.device(device), batch
        self.student = cifar_resnet18().to(device)
        self.store, self.texts = store(folder, max(4 * batch, 256)), prompt_texts().to(device)
        self.images = torch.rand(batch, 3, 32, 32, device=device)
        self.target = torch.arange(batch, device=device) % CLASSES
        self.distillers = {
            name: method.between(self.student, self.store).to(device) for name, method in METHODS.items()
        }
        modules = (self.student, *self.distillers.values())
        self.optimizer = torch.optim.SGD([p for each in modules for p in each.parameters()], lr=1e-3, momentum=0.9)
        self.step = 0

    def teacher(self) -> Features:
        """The next batch out of the store, its class scores made from all prompts' texts."""
        self.step += 1
        index = (torch.arange(self.batch) * 3 + self.step * self.batch) % len(self.store)
        stored = self.store[index].to(self.device)
        assert stored.embedding is not None
        return replace(stored, logits=prompt_logits(stored.embedding, self.texts, SCALE))

    def plain(self) -> None:
        """A step without distillation: cross-entropy on labels."""
        self._update(lambda features: cross_entropy(features.tensor("logits", "the task"), self.target))

    def distilled(self, method: str) -> None:
        """A step with a stored teacher, text products included."""
        self._update(lambda features: self._loss(method, features))

    def loss_only(self, method: str) -> Callable[[], None]:
        """What distillation adds to a step: reading the store, text products, loss, and gradient of the features."""
        with torch.no_grad():
            features = self.student(self.images)
        leaves = features.map_tensors(lambda x: x.detach().requires_grad_())

        def call() -> None:
            self._loss(method, leaves).backward()
            self._synchronize()

        return call

    def _loss(self, method: str, features: Features) -> Tensor:
        distiller = self.distillers[method]
        target = self.target if distiller.active_inputs else None
        return distiller(features, self.teacher(), target=target).total

    def _update(self, loss: Callable[[Features], Tensor]) -> None:
        self.optimizer.zero_grad()
        loss(self.student(self.images)).backward()
        self.optimizer.step()
        self._synchronize()

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure(batch: int, device: str = "cpu", rounds: int = 3) -> dict[str, Any]:
    """Milliseconds of a step and of its loss, taken in turn; shares, ratios and images per second."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Path(folder) / "store", batch, device)
        calls: dict[str, Callable[[], None]] = {"plain": training.plain}
        for name in METHODS:
            calls[name] = lambda name=name: training.distilled(name)
            calls[f"{name}_loss"] = training.loss_only(name)
        times = interleaved(calls, rounds)
        plain = times["plain"]
        row: dict[str, Any] = {"kind": "step", "case": "training step", "shape": str(batch), "on": training.device.type}
        row |= {f"{name}_ms": median(each) for name, each in times.items()} | {"rounds": rounds}
        for name in METHODS:
            row[f"{name}_share"] = median(a / b for a, b in zip(times[f"{name}_loss"], times[name], strict=True))
            row[f"{name}_over_plain"] = median(a / b for a, b in zip(times[name], plain, strict=True))
    live = live_ms(device) * batch / LIVE_BATCH
    row["live_teacher_ms"] = live
    per_second = {"plain": row["plain_ms"], "stored": row["prg_ms"], "live": row["prg_ms"] + live}
    return row | {f"{name}_images_s": 1e3 * batch / ms for name, ms in per_second.items()}


def live_ms(device: str) -> float:
    """Milliseconds of a ResNet-50 teacher at 224 x 224 on ``LIVE_BATCH`` images."""
    teacher, images = live_teacher(device), torch.rand(LIVE_BATCH, 3, 32, 32, device=device)
    found = []
    for _ in range(3):
        start = perf_counter()
        teacher(images)
        if device != "cpu":
            torch.cuda.synchronize()
        found.append((perf_counter() - start) * 1e3)
    return min(found)
