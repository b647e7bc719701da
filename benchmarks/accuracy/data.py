"""Data of the studies: images, and what CLIP says of some of them, from the folder ``GRAPHKD_DATA``."""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphkd import Batch, Features
from graphkd.data.decoding import decoded
from graphkd.data.sources import ArraySource

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


class DataMissingError(SystemExit):
    """The folder of data is not there."""


def folder() -> Path:
    """Where the arrays are. Raises: DataMissingError that says what to set."""
    path = Path(os.environ.get("GRAPHKD_DATA", "data"))
    if not (path / "caltech101_classes.json").is_file():
        raise DataMissingError(
            f"no study data in {path}: set GRAPHKD_DATA to a folder with the arrays that this module reads"
        )
    return path


@dataclass(frozen=True)
class StoredTeacher:
    """What a teacher said of every image, by index: embedding, logits, proxies.

    Args:
        embedding: one row an image, of unit length.
        texts: class proxies, of unit length.
        scale: logits are scale * cosine.
    """

    embedding: Tensor
    texts: Tensor
    scale: float = 100.0

    @property
    def embedding_dim(self) -> int:
        return self.embedding.shape[1]

    @property
    def num_classes(self) -> int:
        return len(self.texts)

    def __call__(self, batch: Batch) -> Features:
        return self.at(batch.index)

    def at(self, index: Tensor) -> Features:
        """Features of those images."""
        x = self.embedding[index]
        return Features(x, self.scale * x @ self.texts.T, self.texts, self.scale * self.texts @ self.texts.T)

    @property
    def features(self) -> Features:
        """Of all images."""
        return self.at(torch.arange(len(self.embedding)))

    def top1(self, labels: Any) -> float:
        """Zero-shot accuracy."""
        return top1(self.features, labels)


@dataclass(frozen=True)
class KeptTeacher:
    """What any teacher said of every image, by index, in memory.

    Args:
        features: of all images.
    """

    features: Features

    @property
    def embedding_dim(self) -> int:
        return self.features.tensor("embedding", "a study").shape[1]

    @property
    def num_classes(self) -> int:
        return self.features.tensor("logits", "a study").shape[1]

    def __call__(self, batch: Batch) -> Features:
        return self.at(batch.index)

    def at(self, index: Tensor) -> Features:
        """Features of those images."""
        return self.features.rows(index).as_float32()


def top1(features: Features, labels: Any) -> float:
    """Accuracy of these logits."""
    found = features.tensor("logits", "scoring").argmax(1)
    return (found == torch.as_tensor(labels)).float().mean().item()


class Split(NamedTuple):
    """Images and the teacher's features of them."""

    source: ArraySource
    teacher: StoredTeacher


@cache
def caltech() -> tuple[Split, Split]:
    """(trained on, scored on): the 41 classes whose names CLIP's text bank covers; 1,058 and 705 images."""
    kept, classes, texts = _covered()
    return _caltech_split("test", kept, classes, texts), _caltech_split("val", kept, classes, texts)


def _covered() -> tuple[list[int], list[str], Tensor]:
    """Labels of the covered classes, their names, and CLIP's embedding of each."""
    names = json.loads((folder() / "caltech101_classes.json").read_text())
    with np.load(folder() / "clip_vitb32_text_bank_detic.npz") as bank:
        rows = {_bare(name): row for name, row in reversed(list(zip(bank["names"].tolist(), bank["emb"], strict=True)))}
    kept = [label for label, name in enumerate(names) if _bare(name) in rows]
    classes = [names[label] for label in kept]
    return kept, classes, _unit(np.stack([rows[_bare(name)] for name in classes]))


def _caltech_split(name: str, kept: list[int], classes: list[str], texts: Tensor) -> Split:
    with np.load(folder() / f"caltech101_{name}_64px_clip_vitb32.npz") as data:
        chosen = np.isin(data["labels"], kept)
        labels = np.searchsorted(kept, data["labels"][chosen])
        return Split(
            ArraySource(data["images"][chosen], labels, classes), StoredTeacher(_unit(data["clip"][chosen]), texts)
        )


@cache
def caltech_pool() -> tuple[Split, int]:
    """(a pool without labels, how many of its first images are of the 41 classes): :func:`caltech`'s, then the others.

    2,465 images, of which the first 1,058 are those that its students train on.
    """
    train, _ = caltech()
    with np.load(folder() / "caltech101_test_64px_clip_vitb32.npz") as data:
        strange = ~np.isin(data["labels"], _covered()[0])
        images = np.concatenate([train.source.images, data["images"][strange]])
        embedding = torch.cat([train.teacher.embedding, _unit(data["clip"][strange])])
    return Split(ArraySource(images), StoredTeacher(embedding, train.teacher.texts)), len(train.source)


def photographs() -> "np.ndarray[Any, Any]":
    """All images of Caltech-101 that are here, of every class; 4,114 of 64 x 64."""
    paths = [folder() / f"caltech101_{name}_64px_clip_vitb32.npz" for name in ("test", "val")]
    return np.concatenate([np.load(path)["images"] for path in paths])


@cache
def cifar100(part: str) -> ArraySource:
    """``"train"`` (50,000) or ``"test"`` (10,000) images of 32 x 32."""
    classes = json.loads((folder() / "cifar100_classes.json").read_text())
    return _decoded(f"cifar100_{part}_webp90.npz", "webp", classes)


@cache
def tin100(part: str) -> ArraySource:
    """``"train"`` (25,000) or ``"val"`` (5,000) images of 64 x 64: TinyImageNet, 100 of its classes."""
    return _decoded(f"tin100_{part}.npz", "jpeg", list(tin100_classes().values()))


def tin100_classes() -> dict[str, str]:
    """WordNet id -> name, in the order of the labels."""
    path = folder() / "tin100_classes.json"
    if not path.is_file():
        raise DataMissingError(f"{folder()} has no {path.name}: this study needs TinyImageNet's arrays")
    return {each["wnid"]: each["name"] for each in json.loads(path.read_text())}


def _decoded(name: str, kind: str, classes: list[str]) -> ArraySource:
    """Images of one size from an array of their files' bytes."""
    with np.load(folder() / name) as data:
        raw, at, labels = data[kind].tobytes(), data["offsets"].tolist(), data["labels"]
    pixels = [np.asarray(decoded(BytesIO(raw[a:b]), f"{name}, bytes {a} to {b}")) for a, b in pairwise(at)]
    return ArraySource(np.stack(pixels), labels, classes)


def subset(source: ArraySource, kept: list[int]) -> ArraySource:
    """Some of its images, in that order."""
    return ArraySource(source.images[kept], [source.target(index) for index in kept], source.classes)


def cifar100_texts() -> Tensor:
    """CLIP's vector of each class name, of unit length (100, 512)."""
    with np.load(folder() / "cifar100_clip_vitb32_text.npz") as data:
        return _unit(data["text"])


def _unit(rows: "np.ndarray[Any, Any]") -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(rows.astype(np.float32)), dim=1)


def _bare(name: str) -> str:
    """A name without its parenthesised part, underscores and case."""
    return re.sub(r"\s+", " ", re.sub(r"\(.*?\)", "", name.replace("_", " "))).strip().lower()
