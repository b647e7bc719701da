"""graphkd distill --dry-run: what a run would read and cost, from a few updates; nothing is left on the disk."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from graphkd.cli import method, teacher_features
from graphkd.cli.commands.distill import Distill
from graphkd.cli.console import Console, listed
from graphkd.cli.errors import require
from graphkd.data.opening import Parts
from graphkd.data.store import tools
from graphkd.data.store.format import MANIFEST
from graphkd.training.devices import Ranks, make_accelerator
from graphkd.training.forecast import Forecast, forecast
from graphkd.training.quality import Answers
from graphkd.training.run_folder import RunFolder

_MIB, _GIB = 2**20, 2**30


def dry_run(config: Distill, run: Path, parts: Parts, console: Console) -> int:
    """Everything up to the first updates, which are measured; then what the whole would take is told."""
    console.go_on = ("nothing was written", "run the command again")
    with TemporaryDirectory() as texts:  # the prompts' embeddings, which a run keeps
        if config.teaching.text_cache is None:
            config = replace(config, teaching=replace(config.teaching, text_cache=Path(texts)))
        accelerator, folder = make_accelerator(config.train, run), RunFolder(run)
        require(Ranks(accelerator).world == 1, "--dry-run measures one process, and these are several", "start one")
        teacher, names, step = method.prepare_step(config, parts.train, accelerator.device, console)
        folder.check(method.identity(config, step, parts.train, teacher), config.resume)
        stored = _is_complete(config.store)
        seen = config if stored else replace(config, store=None)  # a store that is not there yet is not begun
        features = teacher_features.features_of(seen, parts, teacher, accelerator.device, console)
        compared = parts.scored is not None and teacher is not None and names  # a backbone has no answers
        answers = _blank(len(parts.scored or ()), len(names)) if compared else None
        found = forecast(teacher_features.make_trainer(seen, parts, step, teacher, features, answers, accelerator))
    done = folder.checkpoints.updates()[-1:] if config.resume else []
    facts = _facts(config, run, parts, found, found.updates - sum(done), stored)
    facts["classes"], facts["terms"] = len(names), sorted(found.terms)
    console.result(facts, "\n".join(listed(_told(facts))))
    return 0


def _blank(images: int, classes: int) -> Answers:
    """In place of the teacher's answers, which a dry run does not wait for."""
    return Answers(torch.zeros(images, dtype=torch.long), torch.ones(images), torch.zeros(images), classes)


def _is_complete(store: Path | None) -> bool:
    return store is not None and (store / MANIFEST).is_file() and bool(tools.info(store)["complete"])


def _facts(config: Distill, run: Path, parts: Parts, found: Forecast, left: int, stored: bool) -> dict[str, Any]:
    """What a script reads, in bytes and seconds."""
    asking = (found.reading + found.teaching) * len(parts.whole) / (config.train.batch_size * config.train.accumulate)
    ask = asking if config.store is not None and not stored else 0.0  # seconds of filling the store
    choosing = asking if config.select is not None and config.store is None else 0.0
    train = found.seconds(left, teaching=config.store is None)
    return {
        "data": config.images.data,
        "images": len(parts.train),
        "select": config.select,
        "scored_images": 0 if parts.scored is None else len(parts.scored),
        "teacher": config.teaching.teacher,
        "store": None if config.store is None else str(config.store),
        "store_complete": stored,
        "student": config.student.student,
        "size": config.student.size,
        "parameters": found.parameters,
        "method": config.method,
        "epochs": config.train.epochs,
        "batch_size": config.train.batch_size,
        "updates": left,
        "device": found.device,
        "memory_bytes": found.memory,
        "memory_available_bytes": found.available,
        "checkpoint_bytes": found.disk,
        "seconds_per_update": {"reading": found.reading, "teacher": found.teaching, "training": found.learning},
        "seconds_of_asking_the_teacher_for_the_store": ask,
        "seconds_of_selecting": choosing,
        "seconds_of_scoring": found.scoring,
        "seconds": ask + choosing + train,
        "run": str(run),
    }


def _told(facts: dict[str, Any]) -> dict[str, str]:
    """The same for people."""
    each = facts["seconds_per_update"]
    store = f"the store {facts['store']}, {'complete' if facts['store_complete'] else 'which is filled first'}"
    memory = "not told by this system"
    if facts["memory_bytes"] is not None:
        memory = f"{facts['memory_bytes'] / _GIB:.2f} GiB" + (
            f" of {facts['memory_available_bytes'] / _GIB:.0f} on the GPU"
            if facts["memory_available_bytes"]
            else " of this process"
        )
    return {
        "images": f"{facts['images']} of {facts['data']} to train on, {facts['scored_images']} to score on, "
        f"{facts['classes']} classes",
        "teacher": f"{facts['teacher'] or 'none'}" + (f", by {store}" if facts["store"] else ""),
        "student": f"{facts['student']}, {facts['parameters'] / 1e6:.2f} M parameters, {facts['size']} pixels",
        "method": f"{facts['method']}: {', '.join(facts['terms'])}",
        "updates": f"{facts['updates']} of {facts['batch_size']} images, {facts['epochs']} epochs",
        "memory": f"{memory}, on {facts['device']}",
        "disk": f"{facts['checkpoint_bytes'] / _MIB:.1f} MiB of checkpoints in {facts['run']}",
        "an update": f"{sum(each.values()):.3f} s: reading {each['reading']:.3f}, teacher {each['teacher']:.3f}, "
        f"training {each['training']:.3f}",
        "time": f"{timedelta(seconds=round(facts['seconds']))}, of which "
        f"{timedelta(seconds=round(facts['seconds_of_scoring']))} of scoring and "
        f"{timedelta(seconds=round(facts['seconds_of_asking_the_teacher_for_the_store']))} of filling the store"
        + (f", {timedelta(seconds=round(facts['seconds_of_selecting']))} of choosing" if facts["select"] else ""),
    }
