"""The method that the options of a command name, sized for its two networks, and tried before anything is costly."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch

from graphkd.cli.commands.distill import Distill
from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError, require
from graphkd.cli.images import training_view
from graphkd.cli.networks import make_student, open_teacher, teacher_view
from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.views import Views
from graphkd.distillers.base import Distiller
from graphkd.distillers.combined import CombinedDistiller, auto_parts
from graphkd.distillers.factory import create_distiller, distillers, methods_without_classes
from graphkd.errors import GraphKDError, HeadError, MissingFeatureError
from graphkd.features import Features
from graphkd.models.tap import Tap
from graphkd.step import Step, labelled_cross_entropy
from graphkd.teachers.base import Teacher
from graphkd.training.agreement import of_method, of_source, of_teacher
from graphkd.training.devices import prepared
from graphkd.training.metrics import evaluating
from graphkd.training.start import start_from

_TRIED = 4  # images of a rehearsal


def make_distiller(
    config: Distill, student: Tap, teacher: Teacher | EmbeddingStore, train: ImageSource, device: torch.device
) -> Distiller:
    """The distiller of ``--method`` with the options of ``--set``.

    Raises: UsageError for values that the method does not take, and for labels that it needs and was not allowed.
    """
    chosen, options = config.student, dict(config.set)
    if "num_samples" in distillers().get(config.method).sized_by:
        options.setdefault("num_samples", len(train))
    if config.method == "combined":
        options.setdefault("parts", auto_parts(student, teacher))  # before features stand in for both
    sides: tuple[Any, Any] = (student, teacher)
    if chosen.student_maps or chosen.student_tokens or chosen.teacher_maps or chosen.teacher_tokens:
        assert isinstance(teacher, Teacher)  # a store keeps no maps
        sides = _probe(student, teacher, train, chosen.size, device)
    try:
        distiller = create_distiller(config.method, *sides, **options)
    except GraphKDError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{config.method} does not take these options ({error})",
            f"graphkd methods {config.method} lists its options and their values",
        ) from error
    require(
        "target" not in distiller.active_inputs or config.labels != "no",
        f"{config.method} needs labels, and --labels is no",
        "add --labels method, or --labels task for a cross-entropy beside it",
    )
    return distiller


def prepare_step(
    config: Distill, train: ImageSource, device: torch.device, console: Console
) -> tuple[Teacher | EmbeddingStore | None, Classes, Step]:
    """The teacher, the student's classes and what is trained, tried on a few images.

    Returns: no teacher for the method ``none``, and the store where it stands in for one; the step holds the student,
        the method, and the task where labels are learnt from.
    """
    chosen, methods = config.student, []
    backbone = chosen.student_head == "none"
    if backbone and config.method not in ("none", "combined"):
        _require_embeddings_alone(config.method, "--student-head none leaves none")
    teacher: Teacher | EmbeddingStore | None = None
    if config.method != "none" and config.teaching.teacher is None:
        teacher = EmbeddingStore(str(config.store)).for_source(train)
        if teacher.num_classes is None and config.method != "combined":
            _require_embeddings_alone(config.method, f"the store {config.store} holds none")
    elif config.method != "none":
        exposed = chosen.teacher_maps, chosen.teacher_tokens
        teacher = open_teacher(config.teaching, None if backbone else train.classes, device, *exposed, backbone)
    student, names = make_student(config, train, teacher, console)
    if teacher is not None:
        methods = [make_distiller(config, student, teacher, train, device)]
    step = Step(student, *methods, task=labelled_cross_entropy if config.labels == "task" else None)
    if chosen.init is not None and chosen.init.is_dir() and (fresh := start_from(step, chosen.init)):
        console.remark(f"{chosen.init} does not have all of it: {', '.join(fresh)} start fresh")
    rehearse(step, teacher, config, train, device)
    return teacher, names, step


def name_of(step: Step) -> str:
    """What teaches, in words: the parts of a combination by name."""
    methods: list[Any] = list(step.distillers)
    found = [each.parts if isinstance(each, CombinedDistiller) else [each.name] for each in methods]
    return " + ".join(part for parts in found for part in parts) or "labels alone"


def _require_embeddings_alone(method: str, why: str) -> None:
    """Raises: UsageError for a method that compares what a backbone does not have, and names the others."""
    known = methods_without_classes()
    what = f"{method} compares class scores or proxies, and {why}"
    require(method in known, what, f"give a --method of embeddings, maps or tokens alone: {', '.join(known)}")


def identity(
    config: Distill, step: Step, train: ImageSource, teacher: Teacher | EmbeddingStore | None
) -> dict[str, Any]:
    """What a run that is resumed has to share with this command, as far as it is known before the teacher is asked."""
    known = {**of_method(config.train, step), **of_source(train, config.labels != "no"), **of_teacher(teacher)}
    return {name: value for name, value in known.items() if name != "store"}


def rehearse(
    step: Step, teacher: Teacher | EmbeddingStore | None, config: Distill, train: ImageSource, device: torch.device
) -> None:
    """One forward pass of a copy on a few images: what is missing is found before an hour of work.

    Raises: OptionError for layers to freeze that are not there; UsageError that says how to give maps or tokens;
        HeadError where nothing trains the classifier. Other errors may come from the small batch, and pass.
    """
    chosen, tried = config.student, prepared(deepcopy(step), replace(config.train, compile=False))
    if teacher is None:
        return
    view = training_view(chosen.size, chosen.augment, chosen.flip)
    seen = teacher_view(teacher, config.teaching.teacher_size) if isinstance(teacher, Teacher) else view
    views = Views(train, student=view, teacher=seen)
    batch = next(iter(views.loader(min(_TRIED, len(train)), drop_last=False)))
    target = None if config.labels == "no" else torch.zeros(len(batch), dtype=torch.long)
    try:
        with torch.random.fork_rng(devices=[]):
            if isinstance(teacher, Teacher):
                answer = teacher(batch.teacher.to(device)).to("cpu")
            else:
                answer = teacher.read(batch.index, 0)
            if config.store is not None:
                answer = Features(answer.embedding, answer.logits, answer.proxies, answer.proxy_logits)
            tried(batch.student, answer, target=target, index=batch.index)
    except MissingFeatureError as error:
        part = next((name for name in ("maps", "tokens") if f"features.{name}" in str(error)), None)
        if part is None:
            raise
        raise UsageError(
            f"{config.method} compares {part}, and none are named",
            f"give --student-{part} and --teacher-{part} (module paths), and a classifier as --teacher (timm:resnet50)",
        ) from error
    except HeadError:
        raise
    except (GraphKDError, RuntimeError, ValueError):
        return


@torch.no_grad()
def _probe(
    student: Tap, teacher: Teacher, train: ImageSource, size: int, device: torch.device
) -> tuple[Features, Features]:
    """Both networks on two images: what tells the channels of maps and the widths of tokens."""
    views = Views(train, student=training_view(size, "none", False), teacher=teacher_view(teacher))
    batch = next(iter(views.loader(min(2, len(train)), shuffle=False)))
    with evaluating(student):
        found: Features = student(batch.student)
    return found, teacher(batch.teacher.to(device)).to("cpu")
