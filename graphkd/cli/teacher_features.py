"""A teacher's features for a training run: asked for live, or kept in a store, whose random views are shown again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from graphkd.cli.commands.distill import Distill
from graphkd.cli.console import Console
from graphkd.cli.images import training_view
from graphkd.cli.networks import teacher_view
from graphkd.data.opening import Parts
from graphkd.data.store.embed import embed
from graphkd.data.store.format import MANIFEST, Manifest
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import CenterView, Transform, view_of
from graphkd.data.views import Batch, Views
from graphkd.features import Features
from graphkd.step import Step
from graphkd.teachers.base import Teacher
from graphkd.training.loop import Trainer
from graphkd.training.quality import Answers
from graphkd.training.watch import Watch
from graphkd.typing import Tensor


class TeacherFeatures(NamedTuple):
    """A teacher's features of batches of the training images, and of those that are scored on.

    Args:
        teacher: who gives those of the training images, itself or its store.
        replay: the store of the training images, where it keeps what its random views drew.
        stored: whether those of the scored images come from a store, by position.
    """

    train: Callable[[Batch], Features] | None = None
    scored: Callable[[Batch], Features] | None = None
    teacher: Teacher | EmbeddingStore | None = None
    replay: EmbeddingStore | None = None
    stored: bool = False


def features_of(
    config: Distill, parts: Parts, teacher: Teacher | EmbeddingStore | None, device: torch.device, console: Console
) -> TeacherFeatures:
    """The teacher itself, or its features on disk, computed at the first run only; nothing where nobody teaches."""
    if teacher is None:
        return TeacherFeatures()
    live = _asked(teacher, device) if isinstance(teacher, Teacher) else None
    if config.store is None:
        return TeacherFeatures(live, live, teacher)
    whole = whole_store(config, parts, teacher, device, console)
    store = whole.for_source(parts.train)
    if store.manifest.drawn:
        return TeacherFeatures(lambda batch: store.read(batch.index, batch.view), live, store, store)
    if parts.scored is None or parts.train is parts.whole:
        return TeacherFeatures(lambda batch: store[batch.index], live, store)
    held_out = whole.for_source(parts.scored)
    return TeacherFeatures(lambda batch: store[batch.index], lambda batch: held_out[batch.index], store, stored=True)


def _asked(teacher: Teacher, device: torch.device) -> Callable[[Batch], Features]:
    return lambda batch: teacher(batch.teacher.to(device))


def whole_store(
    config: Distill, parts: Parts, teacher: Teacher | EmbeddingStore, device: torch.device, console: Console
) -> EmbeddingStore:
    """The store of all images, filled where there is a teacher to ask."""
    assert config.store is not None
    if isinstance(teacher, EmbeddingStore):
        return EmbeddingStore(config.store)
    made = Manifest.read(config.store) if (config.store / MANIFEST).is_file() else None
    options: dict[str, Any] = {} if made is None else {"dtype": made.dtype, "views": made.views}
    options["transform"] = stored_view(config.store) or teacher_view(teacher, config.teaching.teacher_size)
    options |= {"workers": config.train.workers, "device": device, "progress": console.bars}
    return embed(teacher, parts.whole, config.store, **options)


def stored_view(path: Path) -> Transform | None:
    """The random transform of a store that keeps what it drew, else ``None``."""
    made = Manifest.read(path) if (path / MANIFEST).is_file() else None
    return None if made is None or not made.drawn else view_of(json.loads(made.transform))


def make_trainer(
    config: Distill,
    parts: Parts,
    step: Step,
    teacher: Teacher | EmbeddingStore | None,
    features: TeacherFeatures,
    answers: Answers | Tensor | None,
    accelerator: Any,
) -> Trainer:
    """The trainer, with what the student is shown, and beside it the teacher where its answers are not stored.

    Args:
        answers: the teacher's, about the scored images.
    """
    chosen, replay, seen = config.student, features.replay, None
    view: Any = training_view(chosen.size, chosen.augment, chosen.flip)
    if replay is not None:  # the views of the store, at the student's size
        view = replace(view_of(json.loads(replay.manifest.transform)), size=chosen.size)  # type: ignore[type-var]
    if isinstance(teacher, Teacher):
        seen = teacher_view(teacher, config.teaching.teacher_size)
    views = Views(
        parts.train,
        student=view,
        teacher=seen if seen is not None and config.store is None else "shared",
        seed=config.train.seed,
        labels=config.labels != "no",
        replay=replay,
    )
    center, watch = CenterView(chosen.size), None
    labelled = parts.scored is not None and parts.scored.target(0) is not None
    if config.watch:  # pictures: of held-out images where there are some, whose labels colour them and do no more
        source, held_out = (parts.scored, True) if parts.scored is not None else (parts.train, False)
        watched = Views(source, student=center, teacher=seen or center, labels=labelled)
        stored = not held_out and replay is None  # the features of a store are those of these very views
        watch = Watch(watched, features.train if stored else features.scored, config.watch)
    scored = None
    classless = getattr(step.student, "num_classes", None) is None  # then labels alone cannot score it
    if parts.scored is not None and (answers is not None or (labelled and not classless)):
        scored = Views(parts.scored, student=center, labels=labelled)
    options: dict[str, Any] = {"scored": scored, "answers": answers, "accelerator": accelerator, "watch": watch}
    assert config.run is not None
    return Trainer(step, views, features.train, config.train, config.run, teacher=features.teacher, **options)
