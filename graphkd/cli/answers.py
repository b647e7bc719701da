"""A teacher's features for a training run: asked for live, or kept in a store, whose random views are shown again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from graphkd.cli.configs.train import Distill
from graphkd.cli.console import Console
from graphkd.cli.networks import teacher_view
from graphkd.data.opening import Parts
from graphkd.data.store.embed import embed
from graphkd.data.store.format import MANIFEST, Manifest
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import Transform, view_of
from graphkd.data.views import Batch
from graphkd.features import Features
from graphkd.teachers.base import Teacher


class Answers(NamedTuple):
    """A teacher's features of batches of the training images, and of those that are scored on.

    Args:
        teacher: who gives those of the training images, itself or its store.
        replay: the store of the training images, where it keeps what its random views drew.
    """

    train: Callable[[Batch], Features]
    scored: Callable[[Batch], Features]
    teacher: Teacher | EmbeddingStore
    replay: EmbeddingStore | None = None


def answers_of(config: Distill, parts: Parts, teacher: Teacher, device: torch.device, console: Console) -> Answers:
    """The teacher itself, or its features on disk, computed at the first run only."""

    def live(batch: Batch) -> Features:
        return teacher(batch.teacher.to(device))

    if config.store is None:
        return Answers(live, live, teacher)
    made = Manifest.read(config.store) if (config.store / MANIFEST).is_file() else None
    options: dict[str, Any] = {"transform": view_for(config, teacher), "device": device, "progress": console.bars}
    if made is not None:  # a store keeps the precision and the views that it has
        options |= {"dtype": made.dtype, "views": made.views}
        options["transform"] = stored_view(config.store) or options["transform"]
    whole = embed(teacher, parts.whole, config.store, workers=config.train.workers, **options)
    store = whole.for_source(parts.train)
    if made is not None and made.drawn:
        return Answers(lambda batch: store.read(batch.index, batch.view), live, store, store)
    if parts.scored is None or parts.train is parts.whole:
        return Answers(lambda batch: store[batch.index], live, store)
    held_out = whole.for_source(parts.scored)
    return Answers(lambda batch: store[batch.index], lambda batch: held_out[batch.index], store)


def stored_view(path: Path) -> Transform | None:
    """The random transform of a store that keeps what it drew, else ``None``."""
    made = Manifest.read(path) if (path / MANIFEST).is_file() else None
    return None if made is None or not made.drawn else view_of(json.loads(made.transform))


def resized(store: EmbeddingStore, size: int) -> Any:
    """The transform of a store's views, for images of another size."""
    view: Any = view_of(json.loads(store.manifest.transform))
    return replace(view, size=size)


def view_for(config: Distill, teacher: Teacher) -> Transform:
    """What the teacher is shown."""
    return teacher_view(teacher, config.teaching.teacher_size)
