"""A run of seconds whose folder holds all that pictures are made of; some of its names would do harm if they could."""

import numpy as np
import pytest
import torch
from torch import nn

from graphkd.data.sources import ArraySource
from graphkd.data.transforms import ResizeView
from graphkd.data.views import Views
from graphkd.features import Features
from graphkd.losses import Losses
from graphkd.pictures.html import write_html_report
from graphkd.step import Step
from graphkd.training.config import TrainConfig
from graphkd.training.loop import Trainer
from graphkd.training.watch import Watch

SCRIPT = "<script>document.title='taken'</script>"
CLASSES = [SCRIPT, "green & $blue", "</td><img src=x onerror=alert(1)>"]


class Student(nn.Module):
    """Has all that there is: embedding, logits, proxies, maps."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(6, len(CLASSES))

    def forward(self, images):
        maps = self.body(images)
        embedding = self.drop(maps.mean((2, 3)))
        return Features(embedding, self.head(embedding), self.head.weight, maps={f"body {SCRIPT}": maps})


class Mimic(nn.Module):
    name, global_batch, relates_maps = "mimic", "exact", False

    def forward(self, student, teacher, **given):
        soft = -(teacher.logits.softmax(1) * student.logits.log_softmax(1)).sum(1).mean()
        return Losses({"mimic/ce": soft, "mimic/<b>norm": 1e-4 * student.embedding.square().mean()})


def colours(count, seed, labels=True):
    """Noisy images: class c is bright in channel c."""
    draw = np.random.default_rng(seed)
    targets = np.arange(count) % len(CLASSES)
    images = draw.integers(0, 120, (count, 8, 8, 3))
    images[np.arange(count), :, :, targets] += 100
    source = ArraySource(images.astype(np.uint8), targets=targets.tolist(), classes=CLASSES)
    return Views(source, student=ResizeView(8), labels=labels, seed=seed)


def teacher(batch):
    colour = batch.teacher.mean((2, 3))
    return Features(colour, 20 * colour, torch.eye(3), maps={"pixels": batch.teacher})


def train(run, watch=True, answers=None, **changes):
    """A run; ``watch=None`` for one that watches nothing, ``answers`` for one that is compared with its teacher."""
    torch.manual_seed(0)
    options = {"epochs": 4, "batch_size": 8, "lr": 0.02, "log_every": 2, "progress": False, "trackers": ()}
    watched = Watch(colours(24, 4), teacher, images=20, times=3) if watch is True else watch
    step = Step(Student(), Mimic())
    beside = {"scored": colours(24, 4), "answers": answers, "watch": watched}
    views = colours(40, 3, labels=False)
    return Trainer(step, views, teacher, TrainConfig(**options | changes), run, **beside).fit()


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a finished run."""
    return train(tmp_path_factory.mktemp("runs") / "one").run


@pytest.fixture(scope="session")
def report(run):
    """Its page."""
    return write_html_report(run)
