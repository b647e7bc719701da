"""The method that the options of a command name, sized for its two networks, and tried before anything is costly."""

from copy import deepcopy
from importlib import import_module
from typing import Any

import torch

from graphkd.cli.configs.train import Distill
from graphkd.cli.errors import UsageError, unknown_name
from graphkd.cli.images import training_view
from graphkd.cli.networks import teacher_view
from graphkd.data.sources import ImageSource
from graphkd.data.views import Views
from graphkd.distillers.base import Distiller
from graphkd.distillers.factory import create_distiller, distillers
from graphkd.errors import GraphKDError, MissingFeatureError
from graphkd.features import Features
from graphkd.models.tap import Tap
from graphkd.step import Step
from graphkd.teachers.base import Teacher
from graphkd.training.metrics import evaluating

_TRIED = 4  # images of a rehearsal


def make_distiller(config: Distill, student: Tap, teacher: Teacher, train: ImageSource) -> Distiller:
    """The distiller of ``--method`` with the options of ``--set``.

    Raises: UsageError for values that the method does not take, and for labels that it needs and was not allowed.
    """
    chosen, options = config.student, dict(config.set)
    if "num_samples" in distillers().get(config.method).sized_by:
        options.setdefault("num_samples", len(train))
    sides: tuple[Any, Any] = (student, teacher)
    if chosen.student_maps or chosen.student_tokens or chosen.teacher_maps or chosen.teacher_tokens:
        sides = _probe(student, teacher, train, chosen.size)
    try:
        distiller = create_distiller(config.method, *sides, **options)
    except GraphKDError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{config.method} does not take these options ({error})",
            f"graphkd methods {config.method} lists its options and their values",
        ) from error
    if "target" in distiller.active_inputs and config.labels == "no":
        raise UsageError(
            f"{config.method} needs labels, and --labels is no",
            "add --labels method, or --labels task for a cross-entropy beside it",
        )
    return distiller


def rehearse(step: Step, teacher: Teacher, config: Distill, train: ImageSource, device: torch.device) -> None:
    """One forward pass of a copy on a few images: what is missing is found before an hour of work.

    Raises: UsageError that says how to give maps or tokens. Other errors may come from the small batch, and pass.
    """
    chosen = config.student
    view = training_view(chosen.size, chosen.augment, chosen.flip)
    views = Views(train, student=view, teacher=teacher_view(teacher, config.teaching.teacher_size))
    batch = next(iter(views.loader(min(_TRIED, len(train)), drop_last=False)))
    target = None if config.labels == "no" else torch.zeros(len(batch), dtype=torch.long)
    try:
        with torch.random.fork_rng(devices=[]):
            answer = teacher(batch.teacher.to(device)).to("cpu")
            if config.store is not None:
                answer = Features(answer.embedding, answer.logits, answer.proxies, answer.proxy_logits)
            deepcopy(step)(batch.student, answer, target=target, index=batch.index)
    except MissingFeatureError as error:
        part = next((name for name in ("maps", "tokens") if f"features.{name}" in str(error)), None)
        if part is None:
            raise
        raise UsageError(
            f"{config.method} compares {part}, and none are named",
            f"give --student-{part} and --teacher-{part} (module paths), and a classifier as --teacher (timm:resnet50)",
        ) from error
    except (GraphKDError, RuntimeError, ValueError):
        return


def require_optimizer(name: str) -> None:
    """Raises: UsageError for an optimiser that timm does not have."""
    known: list[str] = import_module("timm.optim").list_optimizers()
    if name not in known:
        raise unknown_name("optimizer", name, known)


@torch.no_grad()
def _probe(student: Tap, teacher: Teacher, train: ImageSource, size: int) -> tuple[Features, Features]:
    """Both networks on two images: what tells the channels of maps and the widths of tokens."""
    views = Views(train, student=training_view(size, "none", False), teacher=teacher_view(teacher))
    batch = next(iter(views.loader(min(2, len(train)), shuffle=False)))
    with evaluating(student):
        found: Features = student(batch.student)
    return found, teacher(batch.teacher.to(teacher.device)).to("cpu")
