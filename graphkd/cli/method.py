"""The method that the options of a command name, sized for its two networks."""

from typing import Any

import torch

from graphkd.cli.configs.train import Distill
from graphkd.cli.errors import UsageError
from graphkd.data.source import ImageSource
from graphkd.data.store import EmbeddingStore
from graphkd.data.transforms import CenterView
from graphkd.distillers.base import Distiller
from graphkd.distillers.factory import create_distiller, distillers
from graphkd.errors import GraphKDError
from graphkd.features import Features
from graphkd.tap import Tap
from graphkd.teachers.base import Teacher
from graphkd.training.metrics import evaluating


def make_distiller(
    config: Distill, student: Tap, teacher: Teacher, store: EmbeddingStore | None, train: ImageSource
) -> Distiller:
    """The distiller of ``--method`` with the options of ``--set``.

    Raises: UsageError for values that the method does not take, and for labels that it needs and was not allowed.
    """
    chosen, options = config.student, dict(config.set)
    if "num_samples" in distillers().get(config.method).sized_by:
        options.setdefault("num_samples", len(train))
    sides: tuple[Any, Any] = (student, store or teacher)
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
    if "target" in distiller.needed and config.labels == "no":
        raise UsageError(
            f"{config.method} needs labels, and --labels is no",
            "add --labels method, or --labels task for a cross-entropy beside it",
        )
    return distiller


@torch.no_grad()
def _probe(student: Tap, teacher: Teacher, train: ImageSource, size: int) -> tuple[Features, Features]:
    """Both networks on two images: what tells the channels of maps and the widths of tokens."""
    view = CenterView(size)
    images = torch.stack([view(train.image(index)) for index in (0, len(train) - 1)])
    with evaluating(student):
        found: Features = student(images)
    return found, teacher(images.to(_place(teacher))).to("cpu")


def _place(teacher: Teacher) -> torch.device:
    place: torch.device = getattr(teacher, "_device", torch.device("cpu"))
    return place
