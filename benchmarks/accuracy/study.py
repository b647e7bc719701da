"""Run one configuration by the product's training loop."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks.accuracy import candidates
from benchmarks.accuracy.config import Config, Recipe
from benchmarks.accuracy.observer import Observer, fixed_batches
from benchmarks.accuracy.tensors import TensorViews
from graphkd import Batch, Distiller, Features, Step, TrainConfig, Trainer
from graphkd.data.sources import ImageSource
from graphkd.models.tap import Tap
from graphkd.step import labelled_cross_entropy
from graphkd.training.run_folder import RunFolder, read_metrics

SCORINGS = 6
"""Points of a learning curve."""


@dataclass(frozen=True)
class Problem:
    """What a study trains on.

    Args:
        train, scored: images; labels of the former are read by ``"labels"`` and by methods that need them only.
        teacher: sizes and proxies for ``create_distiller``.
        student: makes a student from scratch.
        padding: pixels by which training images are shifted at most.
        flip: whether they are flipped too.
        with_labels: every method also learns from true labels (cross-entropy), as the published tables have it.
        features: the teacher's features of a batch; default the teacher called with it.
        sizes: what tells ``create_distiller`` the sizes; default the student and the teacher themselves.
    """

    train: ImageSource
    scored: ImageSource
    teacher: Any
    student: Callable[[], Tap]
    padding: int
    flip: bool = True
    with_labels: bool = False
    features: Callable[[Batch], Features] | None = None
    sizes: Callable[[Tap], tuple[Any, Any]] | None = None

    def look(self, batch: Batch) -> Features:
        """The teacher's features."""
        found: Features = (self.features or self.teacher)(batch)
        return found


@torch.no_grad()
def seen_by(student: Tap, images: Tensor) -> Features:
    """What a student says of images, without a change in it."""
    student.eval()
    found: Features = student(images)
    student.train()
    return found


SHARES: Final = {"features": 1.0, "blocks": 0.5, "logits": 0.0}
"""PRG's option ``nodes``, under whose name results were stored -> the share of the features, which says the same."""


def todays(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they are called today. Those that are gone are refused: their rows were measured with graphkd before.

    Example: ``todays({"nodes": "features"})`` is ``{"rho": 1.0}``.
    """
    found = dict(options)
    if found.get("nodes") in SHARES:
        found = {"rho": SHARES[found.pop("nodes")], **found}
    return found


def step_of(config: Config, problem: Problem) -> Step:
    """A fresh student with the configuration's method."""
    torch.manual_seed(config.seed)
    student = problem.student()
    parts: list[Distiller] = []
    if config.method != "labels":
        sizes = problem.sizes(student) if problem.sizes else (student, problem.teacher)
        parts.append(candidates.create(config.method, *sizes, **todays(config.options)))
    return Step(student, *parts, task=labelled_cross_entropy if reads_labels(config, problem) else None)


def reads_labels(config: Config, problem: Problem) -> bool:
    """Whether a run sees true labels."""
    return problem.with_labels or config.method == "labels"


def train_views(config: Config, problem: Problem) -> TensorViews:
    """Augmented training images, the same for every method of a seed."""
    how: dict[str, Any] = {"padding": problem.padding, "flip": problem.flip, "seed": config.seed}
    return TensorViews(problem.train, **how, labels=reads_labels(config, problem), device=device())


def device() -> str:
    """Where the images lie: beside the student."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def run(config: Config, problem: Problem, progress: bool = False) -> dict[str, Any]:
    """Train and score one student. Returns what the JSON holds beside the configuration."""
    step = step_of(config, problem)
    train = training(config.recipe, config.seed, progress)
    features = problem.look if step.distillers else None
    scored: Any = TensorViews(problem.scored, labels=True, device=device())
    views: Any = train_views(config, problem)
    step.to(device())
    size = config.recipe.batch
    images = len(views) // size * size
    observer = Observer(
        step, fixed_batches(views, size, features), images, config.recipe.epochs, config.recipe.precision
    )
    with tempfile.TemporaryDirectory() as folder:
        result = Trainer(step, views, features, train, folder, scored=scored).fit()
        seconds, cpu = observer.seconds(), observer.cpu()
        observer.end()
        curve = observer.curve(_scorings(folder))
    assert result.scores is not None
    return {
        "top1": 100 * result.scores.top1,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "scores": result.scores.numbers(),
        "shares": observer.shares(),
        "curve": curve,
    }


def _scorings(folder: str) -> list[tuple[int, float]]:
    """(epoch, top-1) of each scoring on the way."""
    return [
        (round(line["epoch"]), line["top1"]) for line in read_metrics(RunFolder(Path(folder)).metrics) if "top1" in line
    ]


def training(recipe: Recipe, seed: int, progress: bool = False) -> TrainConfig:
    """What the product's loop is told: scored on the way, which changes nothing in the training."""
    return TrainConfig(
        epochs=recipe.epochs,
        batch_size=recipe.batch,
        accumulate=recipe.accumulate,
        chunk=recipe.chunk,
        compile=recipe.compile,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        warmup_epochs=recipe.warmup,
        precision=recipe.precision,
        evaluate_every=-(-recipe.epochs // SCORINGS),
        log_every=10**6,
        seed=seed,
        progress=progress,
        trackers=(),
    )


def versions() -> dict[str, str]:
    """What a result depends on beside its configuration."""
    import torchvision

    import graphkd

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} thread(s)"
    return {
        "graphkd": graphkd.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "device": device,
        "cpu": cpu_kind(),
    }


def cpu_kind() -> str:
    """What an exact rerun needs beside the versions: the instructions that torch's CPU code chooses by."""
    known = torch.cpu.get_capabilities()
    used = [name for name in ("avx2", "avx512_f", "avx512_bf16", "avx512_vnni", "amx_bf16") if known.get(name)]
    return " ".join([str(known.get("architecture", "")), *used])
