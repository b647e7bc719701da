"""What was kept of the watched images of a run, read again: see :mod:`graphkd.training.watch`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graphkd.errors import CheckpointError
from graphkd.paths import local_path
from graphkd.text import read_json, regular_size
from graphkd.typing import Float, Int, Tensor

FOLDER = "watched"
ABOUT, IMAGES, TEACHER, SPECTRUM = "about.json", "images.safetensors", "teacher.safetensors", "spectrum:"
_STUDENT = re.compile(r"student-([0-9]{5,9})\.safetensors")


@dataclass(frozen=True)
class Look:
    """What one network said of the watched images, at one time.

    Args:
        embedding, logits, proxies: as of :class:`~graphkd.features.Features`.
        spectra: eigenvalues of the channel graphs of some of the images, ascending, by name of the map.

    Shapes: embedding (n, d), logits (n, c), proxies (c, d), spectra (b, channels).
    """

    embedding: Float[Tensor, "n d"]
    logits: Float[Tensor, "n c"] | None
    proxies: Float[Tensor, "c d"] | None
    spectra: Mapping[str, Float[Tensor, "b c"]]


@dataclass(frozen=True)
class Watched:
    """The watched images of a run, as its folder holds them.

    Args:
        ids: names of the images.
        classes: names of the classes, where there are any.
        labels: of the images, where they were handed out.
        images: thumbnails.
        teacher: what the teacher said.
        student: what the student said, by epochs done, ascending.

    Shapes: labels (n,), images (n, 3, h, w) of uint8.
    """

    ids: list[str]
    classes: list[str] | None
    labels: Int[Tensor, " n"] | None
    images: Int[Tensor, "n 3 h w"]
    teacher: Look | None
    student: Mapping[int, Look]

    @classmethod
    def read(cls, run: Path) -> "Watched | None":
        """Of a run folder; ``None`` where nothing was watched. Raises: CheckpointError for damaged files."""
        folder = local_path(run) / FOLDER
        if not (folder / ABOUT).is_file():
            return None
        try:
            about = read_json(folder / ABOUT)
            ids, classes = _texts(about["ids"]), about["classes"] and _texts(about["classes"])
            labels = None if about["labels"] is None else _labels(about["labels"], classes)
            images = _load(folder / IMAGES)["images"]
            sizes = {len(ids), len(images), len(ids if labels is None else labels)}
            if len(sizes) > 1 or images.ndim != 4 or images.dtype != torch.uint8:
                raise ValueError("names, labels and images do not fit together")
            looks = {epoch: _look(path, len(ids)) for epoch, path in student_files(folder).items()}
            teacher = _look(folder / TEACHER, len(ids)) if (folder / TEACHER).is_file() else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder} is damaged ({error}): remove it, or watch the run again") from error
        return cls(ids, classes, labels, images, teacher, looks)


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        regular_size(path)
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _look(path: Path, count: int) -> Look:
    found = _load(path)
    spectra = {name.removeprefix(SPECTRUM): value for name, value in found.items() if name.startswith(SPECTRUM)}
    look = Look(found["embedding"], found.get("logits"), found.get("proxies"), spectra)
    for value in (look.embedding, look.logits):
        if value is not None and (value.ndim != 2 or len(value) != count or not value.is_floating_point()):
            raise ValueError(f"{path.name} does not hold {count} rows")
    if any(each.ndim != 2 for each in [*spectra.values(), *([look.proxies] if look.proxies is not None else [])]):
        raise ValueError(f"{path.name} holds tensors of other shapes")
    return look


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError("expected a list of names")
    return values


def _labels(values: Any, classes: list[str] | None) -> Int[Tensor, " n"]:
    most = len(classes) if classes else 2**31
    if not isinstance(values, list) or not all(type(each) is int and 0 <= each < most for each in values):
        raise ValueError("there are labels without a class")
    return torch.tensor(values, dtype=torch.int64)


def student_files(folder: Path) -> dict[int, Path]:
    """What the student said, by epochs done, ascending: the files of the folder that are named so."""
    found = ((_STUDENT.fullmatch(path.name), path) for path in folder.glob("student-*"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))
