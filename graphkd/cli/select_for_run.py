"""``graphkd distill --select``: the images of a run, chosen by its own teacher once and kept in its folder."""

import json
from dataclasses import replace
from typing import Any

import torch

from graphkd.cli import networks, selecting, teacher_features
from graphkd.cli.commands.distill import Distill
from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import require_size
from graphkd.data.opening import Parts
from graphkd.data.pool import score_pool
from graphkd.data.selection import Selection, count_of, select
from graphkd.data.sources import ImageSource, source_subset
from graphkd.data.store.read import EmbeddingStore
from graphkd.teachers.base import Teacher
from graphkd.text import parse_json
from graphkd.training.agreement import of_teacher
from graphkd.training.devices import Ranks

PICTURE, PART = "selection.png", "selection.part"
_BATCH = 256  # images that the teacher is asked about at once


def stand_in(config: Distill, parts: Parts) -> Parts:
    """As many images as will be trained on, any of them, until the teacher has chosen. Raises: UsageError."""
    if config.select is None:
        return parts
    held_out = len(parts.whole) - len(parts.train)
    require_size("--select", config.select, len(parts.train), held_out)
    return parts._replace(train=source_subset(parts.train, range(count_of(config.select, len(parts.train)))))


def kept(config: Distill, pool: ImageSource, teacher: Teacher | EmbeddingStore | None) -> Selection | None:
    """What a run that is gone on with chose; ``None`` where nothing is chosen yet.

    Raises: UsageError for another number or another teacher; StoreError for a damaged selection.
    """
    assert config.run is not None
    if config.select is None or not config.resume or not (config.run / "selection.json").is_file():
        return None
    found = Selection.load(config.run)
    what = f"{config.run} chose {len(found)} images, and --select {config.select:g} asks for others"
    same = len(found) == count_of(config.select, len(pool))
    require(same, what, "give the number of the run, or choose another --run")
    same = found.teacher in (None, _named(teacher))
    require(
        same, f"the images of {config.run} were chosen by another teacher", "give that one, or choose another --run"
    )
    (config.run / PART).unlink(missing_ok=True)  # of a run that was killed before it could
    return found


def choose(
    config: Distill,
    parts: Parts,
    pool: ImageSource,
    teacher: Teacher | EmbeddingStore | None,
    device: torch.device,
    ranks: Ranks,
    console: Console,
) -> Selection:
    """The images to train on, as the library chooses them; kept in the run folder with a picture.

    Args:
        pool: to choose from.
        teacher: asked once about each; what it said so far is kept for ``--resume``, or in the store.
    """
    assert config.run is not None
    assert config.select is not None
    assert teacher is not None
    path, part = config.run, config.run / PART
    console.remark(f"choosing among {len(pool)} images")
    if config.store is not None or isinstance(teacher, EmbeddingStore):
        scores = score_pool(teacher_features.whole_store(config, parts, teacher, device, console), pool)
    else:
        require(
            ranks.world == 1,
            "--select asks a teacher in one process, and these are several",
            "add --store FOLDER, which they fill together",
        )
        assert isinstance(teacher, Teacher)  # a store in its place comes with --store
        scores = score_pool(
            teacher,
            pool,
            transform=networks.teacher_view(teacher, config.teaching.teacher_size),
            batch_size=_BATCH,
            workers=config.train.workers,
            device=device,
            part=part,
            progress=lambda loader: console.bar(loader, len(loader), "choosing"),
        )
    chosen = replace(select(scores, config.select), teacher=_named(teacher))

    def keep() -> None:
        chosen.save(path)
        selecting.draw(path / PICTURE, scores, chosen, pool)
        part.unlink(missing_ok=True)

    ranks.first(keep)
    return chosen


def _named(teacher: Teacher | EmbeddingStore | None) -> Any:
    """Who teaches, as JSON gives it back."""
    return parse_json(json.dumps(of_teacher(teacher)["teacher_fingerprint"]))


def facts_of(chosen: Selection, pool: int) -> dict[str, Any]:
    """What the summary of a run tells, JSON-ready."""
    counts = dict(zip(chosen.class_names, chosen.histogram, strict=True))
    lowest = float(chosen.confidences.min())
    return {"taken": len(chosen), "of": pool, "lowest_confidence": lowest, "classes": counts, **chosen.options}


def line_of(facts: dict[str, Any]) -> str:
    """The same for people."""
    fewest = min(facts["classes"], key=lambda name: facts["classes"][name])
    return (
        f"trained on {facts['taken']} of {facts['of']} images, chosen by the teacher's confidence "
        f"({facts['lowest_confidence']:.3f} at least), fewest of {fewest}: {facts['classes'][fewest]}"
    )
