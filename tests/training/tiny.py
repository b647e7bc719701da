"""A run small enough for tests, ways to stop it, and what it leaves."""

from typing import Any

import numpy as np
import torch
from torch import nn

from graphkd.data.sources import ArraySource
from graphkd.data.transforms import RandomCropView
from graphkd.data.views import Views
from graphkd.distillers.base import Distiller, mean_over_batch
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.losses import Losses
from graphkd.step import Step
from graphkd.teachers.base import Teacher
from graphkd.training.checkpoint import Checkpoints
from graphkd.training.config import TrainConfig
from graphkd.training.loop import Trainer
from graphkd.training.quality import ask
from graphkd.training.run_folder import read_metrics

CLASSES = 3
CLOCK = {"images_per_second"}


class Student(nn.Module):
    """Convolution, BatchNorm, dropout, classifier: what a checkpoint must not lose is all here."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: torch.Tensor) -> Features:
        maps, proxies = self.body(images), self.head.weight.clone()
        embedding = self.drop(maps.mean((2, 3)))
        seen = self.head(embedding), proxies, proxies @ proxies.T + self.head.bias
        return Features(embedding, *seen, maps={"body": maps})


class Mimic(nn.Module):
    """A stand-in distiller with a projector; counts what it was given."""

    name, global_batch, relates_maps = "mimic", "exact", False

    def __init__(self, width: int = 8, poison: int | None = None) -> None:
        super().__init__()
        self.project = nn.Linear(width, 4)
        self.poison, self.calls = poison, 0
        self.targets: list[Any] = []
        self.mixtures: list[Any] = []

    def forward(self, student: Features, teacher: Features, **given: Any) -> Losses:
        self.calls += 1
        self.targets.append(given["target"])
        self.mixtures.append(teacher.mixture)
        teacher = teacher.blended()
        soft = -(teacher.logits.softmax(1) * student.logits.log_softmax(1)).sum(1).mean()
        feature = (self.project(student.embedding) - teacher.embedding).square().mean()
        if self.calls == self.poison:
            feature = feature + float("nan")  # its gradient is finite: only the loss tells
        return Losses({"mimic/ce": soft, "mimic/feature": feature})


class Counting(Distiller):
    """A method that counts updates, and looks at one image at a time."""

    global_batch = "per_image"

    def __init__(self) -> None:
        super().__init__()
        self.updates = 0
        self.terms = self.weighted_terms(
            size=(1.0, lambda pair: mean_over_batch(pair.student_features.logits.square().sum(1)))
        )

    def begin(self) -> None:
        self.updates += self.training and not self.same_update

    def build(self, features: Features, side: str) -> Graph:
        return Graph()


def views(count: int = 40, labels: bool = False, seed: int = 3) -> Views:
    """Noisy colours: class c is bright in channel c."""
    draw = np.random.default_rng(seed)
    targets = np.arange(count) % CLASSES
    images = draw.integers(0, 120, (count, 8, 8, 3))
    images[np.arange(count), :, :, targets] += 100
    source = ArraySource(images.astype(np.uint8), targets=targets.tolist(), classes=["red", "green", "blue"])
    return Views(source, student=RandomCropView(8, padding=1), seed=seed, labels=labels)


def teacher(batch: Any) -> Features:
    colour = batch.teacher.mean((2, 3))
    return Features(embedding=torch.cat([colour, colour[:, :1]], 1), logits=20 * colour)


class Named(Teacher):
    """A teacher that is asked only who it is."""

    def __init__(self, weights: str) -> None:
        self.weights = weights

    def fingerprint(self) -> dict[str, str]:
        return {"weights": self.weights}

    def features(self, images: torch.Tensor) -> Features:
        raise AssertionError("it was asked")

    def to(self, device: torch.device | str) -> "Named":
        return self


def config(**changes: Any) -> TrainConfig:
    base = {"epochs": 2, "batch_size": 8, "lr": 0.01, "log_every": 2, "progress": False, "trackers": ()}
    return TrainConfig(**base | changes)


def trainer(
    run: Any,
    *,
    poison: int | None = None,
    width: int = 8,
    scored: bool = False,
    compared: bool = False,
    accelerator: Any = None,
    **changes: Any,
) -> Trainer:
    torch.manual_seed(0)
    step = Step(Student(width), Mimic(width, poison))
    shown = views(12, labels=scored, seed=4) if scored or compared else None
    options: dict[str, Any] = {"scored": shown, "accelerator": accelerator}
    options["answers"] = ask(teacher, shown) if shown is not None and compared else None
    return Trainer(step, views(), teacher, config(**changes), run, **options)


HARD: dict[str, Any] = {
    "epochs": 3, "accumulate": 2, "ema": 0.9, "mixup": 0.4, "clip": 1.0, "warmup_epochs": 1, "checkpoint_every": 2,
    "log_every": 4,  # a checkpoint falls into an open window
    "workers": 2, "scored": True,
}  # fmt: skip


def at_batch(made: Trainer, number: int, act: Any) -> Trainer:
    """Let a trainer do something first, when batch ``number`` (from 1) is asked for."""
    plain, seen = made.features, []

    def features(batch: Any) -> Features:
        seen.append(0)
        if len(seen) == number:
            act()
        return plain(batch)

    made.features = features
    return made


def interrupt() -> None:
    """Stands for a kill."""
    raise KeyboardInterrupt


def end_of(run: Any) -> dict[str, Any]:
    """The newest checkpoint of a run (weights, moments, average, generators), without clock times."""
    state = Checkpoints(run / "checkpoints").newest()[1]
    state["progress"].pop("seconds")
    return state


def same(a: Any, b: Any, path: str = "") -> None:
    """Bit for bit, in any nesting."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def lines(run: Any) -> list[dict[str, Any]]:
    """A run's metrics, without clock times."""
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(run / "metrics.jsonl")]
