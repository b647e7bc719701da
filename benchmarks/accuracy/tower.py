"""CLIP-like teachers of the CIFAR-100 studies: image towers trained once, with labels, against CLIP's class texts."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.accuracy import data, students
from benchmarks.accuracy.config import fast_precision
from benchmarks.accuracy.study import device
from benchmarks.accuracy.tensors import TensorViews
from graphkd import Batch, Features, Step, Tap, TrainConfig, Trainer
from graphkd.files import write_file
from graphkd.step import labelled_cross_entropy
from graphkd.teachers.base import Teacher

SCALE = 100.0


@dataclass(frozen=True)
class Spec:
    """A teacher and how it is made.

    Args:
        body: name of a network of :mod:`benchmarks.accuracy.students`.
        epochs, batch, lr, weight_decay: of its training by AdamW.
        taught: labelled images it sees; students get the others, or all where there are none.
    """

    body: str
    epochs: int
    batch: int
    lr: float
    weight_decay: float
    taught: int


TOWERS = {
    "reduced": Spec("resnet20", 15, 128, 3e-3, 0.05, 40_000),
    "full": Spec("resnet32x4", 120, 256, 2e-3, 0.1, 50_000),
}


def split(images: int, taught: int) -> tuple[list[int], list[int]]:
    """(the teacher's labelled images, the students' unlabelled ones): one fixed random division."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(0)).tolist()
    return order[:taught], order[taught:] or order


def unlabelled(name: str, images: int) -> list[int]:
    """The students' images."""
    return split(images, TOWERS[name].taught)[1]


class Tower(nn.Module):
    """An image network whose embedding is compared with class texts, as CLIP's is: logits = 100 cos(f, t_c)."""

    texts: Tensor

    def __init__(self, body: Tap, texts: Tensor) -> None:
        super().__init__()
        self.body, self.project = body, nn.Linear(body.embedding_dim, texts.shape[1])
        self.register_buffer("texts", texts)
        self.embedding_dim, self.num_classes = texts.shape[1], len(texts)

    def forward(self, images: Tensor) -> Features:
        found = self.body(images)
        x = normalize(self.project(found.tensor("embedding", "the tower")).float(), dim=1)
        logits = SCALE * x @ self.texts.T
        return Features(x, logits, self.texts, SCALE * self.texts @ self.texts.T, maps=found.maps)


class TowerTeacher(Teacher):
    """A trained tower, frozen, that shows its maps."""

    def __init__(self, name: str, maps: list[str]) -> None:
        self.name, self.tower = name, load(name, maps)
        self.embedding_dim, self.num_classes, self.classes = self.tower.embedding_dim, self.tower.num_classes, None

    def features(self, images: Tensor) -> Features:
        """Of images in [0, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=fast_precision() == "bf16"):
            found: Features = self.tower(images)
        return found

    def fingerprint(self) -> dict[str, str]:
        """Its name says how it was trained."""
        return {"teacher": str(TOWERS[self.name])}

    def to(self, device: torch.device | str) -> "TowerTeacher":
        self.tower.to(device)
        return self

    def see(self, batch: Batch) -> Features:
        """Of the student's own view, because maps are compared place by place."""
        return self(batch.student)


def _fresh(name: str, maps: list[str]) -> Tower:
    return Tower(students.make(TOWERS[name].body, 100, *data.CIFAR, maps=maps), data.cifar100_texts())


def cache_folder() -> Path:
    """Where teachers are kept: beside the results, never committed."""
    return Path(os.environ.get("GRAPHKD_STUDY_CACHE", Path(__file__).with_name("cache")))


def _path(kind: str, name: str) -> Path:
    spec = TOWERS[name]
    return cache_folder() / f"{kind}-{name}-{spec.body}-{spec.epochs}.safetensors"


def load(name: str, maps: list[str] | None = None) -> Tower:
    """A trained tower, frozen; trained now if it never was."""
    path = _path("tower", name)
    if not path.is_file():
        train(name)
    tower = _fresh(name, maps or [])
    tower.load_state_dict(load_file(path))
    return tower.eval().requires_grad_(False).to(device())


def train(name: str) -> None:
    """With labels, on the images set aside for it; an interrupted training goes on where it stopped."""
    spec, path = TOWERS[name], _path("tower", name)
    print(f"training the teacher: {spec}", flush=True)
    torch.manual_seed(0)
    source = data.cifar100("train")
    views: Any = TensorViews(
        data.subset(source, split(len(source), spec.taught)[0]), padding=4, labels=True, device=device()
    )
    scored: Any = TensorViews(data.cifar100("test"), labels=True, device=device())
    config = TrainConfig(
        epochs=spec.epochs,
        batch_size=spec.batch,
        lr=spec.lr,
        weight_decay=spec.weight_decay,
        warmup_epochs=spec.epochs / 6,
        precision=fast_precision(),
        evaluate_every=max(1, spec.epochs // 8),
        log_every=100,
        trackers=(),
    )
    tower, run = _fresh(name, []), path.with_suffix(".run")
    result = Trainer(Step(tower, task=labelled_cross_entropy), views, None, config, run, scored=scored).fit(resume=True)
    assert result.scores is not None
    print(f"teacher: {100 * result.scores.top1:.2f} % in {result.seconds:.0f} s", flush=True)
    write_file(path, save({each: value.contiguous().cpu() for each, value in tower.state_dict().items()}))


@cache
def _embeddings(name: str) -> Tensor:
    """Of all training images, plain view."""
    path = _path("features", name)
    if not path.is_file():
        tower, views = load(name), TensorViews(data.cifar100("train"), device=device())
        with torch.no_grad():
            rows = [tower(batch.student).embedding for batch in views.loader(500, shuffle=False, drop_last=False)]
        write_file(path, save({"embedding": torch.cat(rows).cpu()}))
    return load_file(path)["embedding"]


def features(name: str, kept: list[int]) -> data.StoredTeacher:
    """What a tower says of some training images, by their position in the list."""
    return data.StoredTeacher(_embeddings(name)[kept], data.cifar100_texts(), SCALE)
