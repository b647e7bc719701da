"""The run folder: what was asked, on what machine, and every number on the way."""

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from graphkd.paths import local_path
from graphkd.training.checkpoint import Checkpoints
from graphkd.training.files import write_file, write_json, written
from graphkd.training.metrics import Scores

_PACKAGES = (
    "graphkd",
    "torch",
    "torchvision",
    "torch_geometric",
    "timm",
    "open_clip_torch",
    "accelerate",
    "triton",
    "numpy",
)


def environment() -> dict[str, Any]:
    """Versions, devices and the command, as JSON-ready data."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "cuda": torch.version.cuda,
        "devices": devices,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


class RunFolder:
    """One folder per run.

    ======================  =====================================================
    ``config.json``         the resolved options
    ``environment.json``    versions, devices, command
    ``metrics.jsonl``       one line per reading of the losses and per scoring
    ``scores.json``         the latest scoring, with its confusions
    ``watched/``            see :class:`graphkd.training.watch.Watch`
    ``checkpoints/``        see :class:`graphkd.training.checkpoint.Checkpoints`
    ``tensorboard/``        where that tracker is on
    ======================  =====================================================

    Args:
        path: the folder; made on :meth:`open`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = local_path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.metrics = self.path / "metrics.jsonl"

    def open(self, options: Mapping[str, Any], update: int) -> None:
        """Write options and environment, and forget every line after that update."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", options)
        write_json(self.path / "environment.json", environment())
        kept = [line for line in read_metrics(self.metrics) if line["update"] <= update] if update else []
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_file(self.metrics, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def newest(self) -> str | None:
        """Path of the newest checkpoint, as text."""
        updates = self.checkpoints.updates()
        return str(self.checkpoints.path(updates[-1])) if updates else None

    def saved(self) -> str:
        """What there is to go on from, as half a sentence."""
        return f"the newest checkpoint is {self.newest()}" if self.newest() else "no checkpoint was due yet"

    def add(self, line: Mapping[str, Any], scores: Scores | None = None, seconds: float = 0.0) -> None:
        """Append one line of metrics, and keep the scoring it tells of.

        Args:
            scores: the scoring.
            seconds: of training so far.

        Raises: CheckpointError where the disk is full.
        """
        with written(self.metrics, "The checkpoints are intact"), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(line)) + "\n")
        if scores is not None:
            occurs = scores.confusion.nonzero().tolist()
            counts = [[row, column, int(scores.confusion[row, column])] for row, column in occurs]
            found = {**line, "seconds": seconds, "images": scores.images, "classes": len(scores.confusion)}
            write_json(self.path / "scores.json", {**found, "confusion": counts})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; a last line that an interruption cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
