"""The CLIP-like teacher of the CIFAR-100 studies: trained once with labels on images that no student is trained on."""

import os
import tempfile
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.accuracy import data, students
from graphkd import Features, Step, Tap, TrainConfig, Trainer, Views
from graphkd.data.sources import source_subset
from graphkd.data.transforms import CenterView, RandomCropView
from graphkd.step import labelled_cross_entropy

BODY, EPOCHS, SCALE = "resnet20", 15, 100.0
TAUGHT = 40_000


def split(images: int) -> tuple[list[int], list[int]]:
    """(the teacher's labelled images, the students' unlabelled ones): one fixed random division."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(0)).tolist()
    return order[:TAUGHT], order[TAUGHT:]


def unlabelled(images: int) -> list[int]:
    """The students' images."""
    return split(images)[1]


class Tower(nn.Module):
    """An image network whose embedding is compared with class texts, as CLIP's is: logits = 100 cos(f, t_c)."""

    def __init__(self, body: Tap, texts: Tensor) -> None:
        super().__init__()
        self.body, self.project = body, nn.Linear(body.embedding_dim, texts.shape[1])
        self.register_buffer("texts", texts)
        self.embedding_dim, self.num_classes = texts.shape[1], len(texts)

    def forward(self, images: Tensor) -> Features:
        found = self.body(images)
        x = normalize(self.project(found.tensor("embedding", "the tower")), dim=1)
        logits = SCALE * x @ self.texts.T
        return Features(x, logits, self.texts, SCALE * self.texts @ self.texts.T, maps=found.maps)


def _fresh(maps: list[str]) -> Tower:
    return Tower(students.make(BODY, 100, *data.CIFAR, maps=maps), data.cifar100_texts())


def cache_folder() -> Path:
    """Where the teacher is kept: beside the results, never committed."""
    return Path(os.environ.get("GRAPHKD_STUDY_CACHE", Path(__file__).with_name("cache")))


def load(maps: list[str] | None = None) -> Tower:
    """The trained tower, frozen; trained now if it never was."""
    path = cache_folder() / f"tower-{BODY}-{EPOCHS}.safetensors"
    if not path.is_file():
        train(path)
    tower = _fresh(maps or [])
    tower.load_state_dict(load_file(path))
    return tower.eval().requires_grad_(False)


def train(path: Path) -> None:
    """With labels, on the images set aside for it."""
    print(f"training the teacher: {BODY}, {EPOCHS} epochs of {TAUGHT} labelled images", flush=True)
    torch.manual_seed(0)
    source = data.cifar100("train")
    views = Views(source_subset(source, split(len(source))[0]), student=RandomCropView(32), labels=True)
    scored = Views(data.cifar100("test"), student=CenterView(32), labels=True)
    config = TrainConfig(
        epochs=EPOCHS, batch_size=128, lr=3e-3, warmup_epochs=2, evaluate_every=2, log_every=100, trackers=()
    )
    with tempfile.TemporaryDirectory() as folder:
        tower = _fresh([])
        result = Trainer(Step(tower, task=labelled_cross_entropy), views, None, config, folder, scored=scored).fit()
    assert result.scores is not None
    print(f"teacher: {100 * result.scores.top1:.2f} % in {result.seconds:.0f} s", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: each.contiguous() for name, each in tower.state_dict().items()}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


@cache
def _embeddings() -> Tensor:
    """Of all training images, plain view."""
    path = cache_folder() / f"features-{BODY}-{EPOCHS}.safetensors"
    if not path.is_file():
        tower, views = load(), Views(data.cifar100("train"), student=CenterView(32))
        with torch.no_grad():
            rows = [tower(batch.student).embedding for batch in views.loader(500, shuffle=False, drop_last=False)]
        save_file({"embedding": torch.cat(rows)}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
    return load_file(path)["embedding"]


def features(kept: list[int]) -> data.StoredTeacher:
    """What the tower says of some training images, by their position in the list."""
    return data.StoredTeacher(_embeddings()[kept], data.cifar100_texts(), SCALE)
