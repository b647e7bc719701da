"""The run folder: what was asked, on what machine, and every number on the way."""

import json
import logging
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd.data.class_names import Classes
from graphkd.errors import CheckpointError
from graphkd.files import local_path, remove, remove_leftovers, write_file, write_json, writing
from graphkd.models.tap import Tap
from graphkd.ops import Table
from graphkd.text import numbers, parse_json, read_bytes, read_json
from graphkd.training.checkpoint import Checkpoints
from graphkd.training.config import TrainConfig
from graphkd.training.metrics import Scores
from graphkd.training.quality import AnyQuality, Quality
from graphkd.training.watch import FOLDER
from graphkd.typing import Tensor

log = logging.getLogger("graphkd")

STUDENT = "student.json"
KERNELS = "kernels.json"
QUALITY = "quality.json"
BEST = "best"
_WRITTEN = (
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "scores.json",
    QUALITY,
    "run.yaml",
    STUDENT,
    KERNELS,
    "results.json",
    "report.md",
    "selection.json",
    "selection.safetensors",
    "selection.part",
    "selection.png",
)
_FOLDERS = ("checkpoints", FOLDER, "tensorboard", BEST)
_LARGEST = 1 << 28  # bytes of a metrics.jsonl: about a million lines
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


def versions() -> dict[str, str | None]:
    """Versions of graphkd and of the libraries that a result depends on; ``None`` for one that is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Versions, devices and the command, as JSON-ready data."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


def describe_student(
    student: nn.Module, classes: Sequence[str] | None, size: Any, view: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What is needed to build a student again, as ``student.json`` keeps it.

    Args:
        student: its name is known where :func:`graphkd.models.students.create_student` made it, or where it is a tap of
            an unchanged network of timm. Of any other the class is noted, and only its author can build it.
        classes: names of its classes; default their numbers.
        size: side of its images, or height and width, pixels; ``None`` where that is not known.
        view: specification of what it is shown of an image when it is scored; default the centre.

    Returns: JSON-ready: ``student`` (its name, or ``None``), ``module`` (the class of a network without a name),
        ``num_classes``, ``classes`` (names, or a mapping from id to name), ``size``, ``view``, ``mean`` and ``std``.
    """
    count = getattr(student, "num_classes", None)
    count = 0 if count is None and isinstance(student, Tap) else count  # a backbone without a classifier
    if isinstance(size, tuple) and len({*size}) == 1:
        size = size[0]
    names = Classes(classes or [str(label) for label in range(count or 0)])
    facts = {"student": None, "num_classes": count, "classes": names.to_json(), "size": size, "view": view}
    network = student
    if isinstance(student, Tap):
        network = student.model
        facts["student"] = student.created_as or _timm_name(student)
        for name, value in (("mean", student.mean), ("std", student.std)):
            facts[name] = None if value is None else value.flatten().tolist()
    if facts["student"] is None:
        facts["module"] = f"{type(network).__module__}.{type(network).__qualname__}"
    return facts


def _timm_name(student: Tap) -> str | None:
    """The name by which timm makes this very network, layer by layer; ``None`` where it does not."""
    import timm

    known = getattr(student.model, "pretrained_cfg", None) or {}
    name = known.get("architecture")
    if not name or not timm.is_model(name):
        return None
    try:
        with torch.device("meta"):  # no memory, no random numbers
            again = timm.create_model(name, num_classes=student.num_classes or 0)
    except Exception:  # some networks cannot be made without memory
        return None
    return str(name) if repr(again) == repr(student.model) and _normalises_as(student, known) else None


def _normalises_as(student: Tap, known: Mapping[str, Any]) -> bool:
    """Whether a tap normalises images as its network says of itself, and so as ``create_student`` makes it."""
    pairs = ((student.mean, known.get("mean")), (student.std, known.get("std")))
    return all(
        own is not None and said is not None and torch.allclose(own.flatten().cpu(), torch.tensor(said))
        for own, said in pairs
    )


class RunFolder:
    """One folder per run.

    ======================  =====================================================
    ``config.json``         the resolved options
    ``environment.json``    versions, devices, command, digest of the kernels' plan
    ``kernels.json``        which implementation of each operation the run uses
    ``student.json``        what is needed to build the student again
    ``metrics.jsonl``       one line per reading of the losses and per scoring
    ``scores.json``         the latest scoring, with its confusions
    ``quality.json``        the latest comparison with the teacher, with both guesses
    ``best/``               without labels: the student of highest agreement, to be named as a run folder is
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
        self.best = Checkpoints(self.path / BEST / "checkpoints", keep=1)
        self.metrics = self.path / "metrics.jsonl"

    def check(self, options: Mapping[str, Any], resume: bool) -> None:
        """Refuse to begin where a run is, or to go on with it in another way; nothing is written.

        Args:
            options: that decide the result, or some of them.

        Raises: CheckpointError that names each difference, and a folder of the run that is a link.
        """
        self._check_places()
        if not self.checkpoints.updates():
            return
        if not resume:
            raise CheckpointError(f"{self.path} holds a run already: resume it, or choose another run folder")
        try:
            earlier = read_json(self.path / "config.json")
        except (OSError, ValueError):
            return  # damaged: every checkpoint holds the same
        if isinstance(earlier, dict):
            TrainConfig.check_resume(earlier, options, str(self.path))

    def _check_places(self) -> None:
        """Refuse what would lead a writer out of the run folder, or cannot be replaced by a file."""
        for name in _FOLDERS:
            if (self.path / name).is_symlink():
                raise CheckpointError(
                    f"{self.path / name} is a link, and a run writes in its own folder only: remove the link, or "
                    "choose a run folder on that disk"
                )
        for name in _WRITTEN:
            if (self.path / name).exists() and not (self.path / name).is_file():
                raise CheckpointError(f"{self.path / name} is no file: remove it, or choose another run folder")

    def plan(self, here: Table) -> Table:
        """The kernels' choices that the run began with, which a resumed run keeps: it would be another run with others.

        But what has failed on this machine since then is not chosen any more, and the log says so.

        Args:
            here: those in force, for a run that kept none or the same.

        Raises: CheckpointError if they are gone or were changed, and those in force are others.
        """
        kept = digest = None
        with suppress(OSError, LookupError, TypeError, ValueError, AttributeError):
            kept = Table.of(read_json(self.path / KERNELS), f"the plan that {self.path} began with")
        with suppress(OSError, LookupError, TypeError, ValueError):
            digest = read_json(self.path / "environment.json")["kernels"]
        if kept is not None and digest in (None, kept.digest):
            for line in sorted(set(here.failures) - set(kept.failures)):
                log.warning("%s goes on without what has failed here since it began: %s", self.path, line)
            return kept.without_failures_of(here)
        if digest not in (None, here.digest):  # None: it began before choices were kept
            raise CheckpointError(
                f"{self.path / KERNELS} is gone, damaged or changed, and the kernels' plan {digest} that the run began "
                f"with is not {here.digest} of this machine: put the file back, or choose another run folder"
            )
        return here

    def open(
        self,
        options: Mapping[str, Any],
        update: int,
        student: Mapping[str, Any] | None = None,
        plan: Table | None = None,
    ) -> None:
        """Write options, environment and student, and forget every line after that update; for the one writer.

        Args:
            student: as of :func:`describe_student`.
            plan: the kernels' choices.

        Raises: FileError where the disk is full.
        """
        kept = [line for line in read_metrics(self.metrics) if line["update"] <= update] if update else []
        remove_leftovers(self.path, *_WRITTEN)
        write_json(self.path / "config.json", options)
        write_json(self.path / "environment.json", {**environment(), **({"kernels": plan.digest} if plan else {})})
        if plan is not None:
            write_json(self.path / KERNELS, plan.to_json())
        if student is not None:
            self.write_student(student)
        write_file(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))

    def write_student(self, student: Mapping[str, Any]) -> None:
        """Write ``student.json``, as of :func:`describe_student`."""
        write_json(self.path / STUDENT, student)

    def newest(self) -> str | None:
        """Path of the newest checkpoint, as text."""
        updates = self.checkpoints.updates()
        return str(self.checkpoints.path(updates[-1])) if updates else None

    def saved(self) -> str:
        """What there is to go on from, as half a sentence."""
        return f"the newest checkpoint is {self.newest()}" if self.newest() else "no checkpoint was due yet"

    def best_agreement(self, update: int) -> float:
        """Agreement of the best student so far, -1 for none; one of a later update, or damaged, is forgotten."""
        try:
            found = self.best.newest()
            if found is not None and found[0] <= update:
                return float(found[1]["agreement"])
        except (CheckpointError, KeyError, TypeError, ValueError) as error:
            log.warning("the best student so far is lost, the next one scored takes its place: %s", error)
        remove(self.path / BEST)
        return -1.0

    def keep_best(self, update: int, epoch: int, agreement: float, weights: Mapping[str, Tensor]) -> None:
        """Keep a student as the best so far, so that ``best/`` can be named where a run folder is asked for."""
        self.best.save(update, {"ema": dict(weights), "epoch": epoch, "agreement": agreement})
        write_json(self.path / BEST / STUDENT, read_json(self.path / STUDENT))

    def add(
        self,
        line: Mapping[str, Any],
        scores: Scores | None = None,
        seconds: float = 0.0,
        quality: AnyQuality | None = None,
    ) -> None:
        """Append one line of metrics, and keep the scoring it tells of.

        Args:
            scores: the scoring by labels.
            seconds: of training so far.
            quality: the comparison with the teacher.

        Raises: FileError where the disk is full.
        """
        how = writing(self.metrics, "The checkpoints are intact", "go on with fit(resume=True)")
        with how, self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(line)) + "\n")
        if scores is not None:
            occurs = scores.confusion.nonzero().tolist()
            counts = [[row, column, int(scores.confusion[row, column])] for row, column in occurs]
            found = {**line, "seconds": seconds, "images": scores.images, "classes": len(scores.confusion)}
            write_json(self.path / "scores.json", {**found, "confusion": counts})
        if isinstance(quality, Quality):
            found = {**line, "seconds": seconds, "images": quality.images, "classes": quality.teacher.classes}
            kept = {"confusion": quality.pairs, "reliability": quality.reliability.T.tolist()}
            write_json(self.path / QUALITY, {**found, **kept, "collapsed": quality.collapsed})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``, numbers by name, ``update`` and ``epoch`` among them.

    A damaged line is said and left out, and so is a last one that was cut off.

    Raises: CheckpointError for what is no file, or one of more than 256 MiB.
    """
    if not path.exists():
        return []
    try:
        text = read_bytes(path, _LARGEST)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): put a good copy back, or remove it") from error
    found = []
    for number, line in enumerate(text.split(b"\n")[:-1], start=1):
        try:
            values = numbers(parse_json(line), ("update", "epoch"))
            if type(values["update"]) is not int:
                raise ValueError("its update is no whole number")
            found.append(values)
        except ValueError as error:
            log.warning("line %d of %s is damaged (%s) and left out", number, path, error)
    return found
