"""Which images of an unlabelled pool to distil on: scored by the teacher, balanced over its classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from graphkd.data.class_names import Classes
from graphkd.data.pool import PoolScores as PoolScores
from graphkd.data.pool import score_pool as score_pool
from graphkd.data.sources import ImageSource, SourceSubset, source_subset
from graphkd.data.store.format import Array, read_pair, write_pair
from graphkd.errors import OptionError, StoreError
from graphkd.files import local_path
from graphkd.registry import unknown
from graphkd.typing import Bool, Tensor

_BALANCES = ["class", "global"]
_ARRAYS = ("indices", "scores", "labels", "confidences")


@dataclass(frozen=True)
class Selection:
    """Samples chosen from a pool.

    Args:
        indices: positions in the pool, ascending; :meth:`images` gives the images.
        scores: what they were ranked by.
        labels: the teacher's class of each.
        confidences: the teacher's max p of each.
        ids: names of the samples.
        histogram: samples chosen per class.
        options: as of :func:`select`.
        attractors: classes that were left out.
        teacher: who was asked, by its fingerprint; ``None`` where nobody noted it.

    Shapes: indices, scores, labels, confidences (n,), histogram (c,).
    """

    indices: Array
    scores: Array
    labels: Array
    confidences: Array
    ids: list[str]
    histogram: list[int]
    options: Mapping[str, Any]
    classes: list[str] | None = None
    attractors: list[int] = field(default_factory=list)
    teacher: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, no two alike; their numbers where they have none."""
        return Classes(self.classes).distinct if self.classes else [str(label) for label in range(len(self.histogram))]

    def report(self) -> str:
        """The realised histogram, the emptiest classes first, and the confidence."""
        counts = sorted(zip(self.histogram, self.class_names, strict=True))
        each = ", ".join(f"{name} {count}" for count, name in counts)
        low, mean = self.confidences.min(), self.confidences.mean()
        return f"{len(self)} samples, confidence {mean:.3f} on average, {low:.3f} at least; per class: {each}"

    def trusted_classes(self, *, min_samples: int = 1, min_confidence: float = 0.0) -> Bool[Tensor, " c"]:
        """Classes with enough samples that are certain enough on average; for ``DatasetClasses``."""
        total = np.bincount(self.labels, weights=self.confidences, minlength=len(self.histogram))
        count = np.asarray(self.histogram)
        return torch.from_numpy((count >= min_samples) & (total >= min_confidence * count))

    def images(self, source: ImageSource) -> SourceSubset:
        """The chosen images of the pool. Raises: StoreError for a source that is not the pool, sample for sample."""
        if self.indices.max() >= len(source) or [source.ids[at] for at in self.indices] != self.ids:
            raise StoreError("this selection was made of other images, or in another order: select again")
        return source_subset(source, self.indices.tolist())

    def save(self, path: str | Path) -> None:
        """Write ``selection.safetensors`` and ``selection.json`` into a folder, each at once or not at all."""
        about = {"ids": self.ids, "histogram": self.histogram, "classes": self.classes}
        about |= {"options": dict(self.options), "attractors": self.attractors, "teacher": self.teacher}
        data = save({name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS})
        write_pair(local_path(path) / "selection", data, **about)

    @classmethod
    def load(cls, path: str | Path) -> "Selection":
        """The selection of a folder. Raises: StoreError for a missing or damaged one."""
        body, raw, _ = read_pair(local_path(path) / "selection")
        try:
            return cls(**{**load(raw.numpy().tobytes()), **body})
        except (TypeError, SafetensorError) as error:
            raise StoreError(f"{path} holds no selection ({error}): select again") from error


def select(
    scores: PoolScores,
    n: float = 50_000,
    *,
    score: str = "confidence",
    balance: str = "class",
    band: tuple[float, float] = (0.0, 1.0),
    class_confidence: float = 0.0,
) -> Selection:
    r"""The n best samples.

    .. math:: S = \bigcup_k \mathrm{best}_{\lfloor n/K \rfloor} \{x : c(x) = k\} \;\cup\; \text{the best of the rest}

    EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.
    Equal scores are ranked by position, so the same pool and teacher give the same selection.

    Args:
        scores: of the pool.
        n: samples to choose; a number below 1 is a share of the pool.
        score: ``"confidence"`` (default), ``"margin"``, or ``"entropy"``, the lowest first.
        balance: ``"class"`` (default: a quota of n / K for each of the teacher's classes, filled up with the best of
            the rest where a class has fewer) or ``"global"`` (DFND).
        band: smallest and largest confidence in [0, 1]; others are never chosen. ``(0.7, 1)`` makes a quota of which
            no class is filled with what the teacher is unsure of.
        class_confidence: in [0, 1]; a class is left out if the confidence of the pool's images in it is lower on
            average: it attracts images of no known class. K counts the classes that remain.

    Raises: OptionError if fewer than n samples may be chosen; UnknownNameError for another score or balance.
    Example: ``selection = select(score_pool(teacher, pool, transform=view), 50_000, band=(0.7, 1))``
    """
    n = count_of(n, len(scores))
    if balance not in _BALANCES:
        raise unknown("balance", balance, _BALANCES)
    if not 0 <= band[0] <= band[1] <= 1 or not 0 <= class_confidence <= 1:
        raise OptionError(f"expected band and class_confidence in [0, 1], found {band} and {class_confidence}")
    key, out = scores.rank(score), attractors(scores, class_confidence)
    may = (scores.label >= 0) & (scores.confidence >= band[0]) & (scores.confidence <= band[1]) & ~out[scores.label]
    if may.sum() < n:
        raise OptionError(
            f"expected at most {may.sum()} samples, those of the pool that may be chosen, found {n}: choose fewer, or "
            "let band and class_confidence leave more"
        )
    quota = n // max(1, scores.num_classes - int(out.sum())) if balance == "class" else 0
    order = np.flatnonzero(may)
    order = order[np.argsort(-key[order], kind="stable")]
    first = _place_in_class(scores.label[order]) < quota
    indices = np.sort(np.concatenate([order[first], order[~first][: n - int(first.sum())]])).astype(np.int64)
    return Selection(
        indices=indices,
        scores=key[indices],
        labels=scores.label[indices],
        confidences=scores.confidence[indices],
        ids=[scores.ids[i] for i in indices],
        histogram=np.bincount(scores.label[indices], minlength=scores.num_classes).tolist(),
        options={"n": n, "score": score, "balance": balance, "band": list(band), "class_confidence": class_confidence},
        classes=None if scores.classes is None else list(scores.classes),
        attractors=np.flatnonzero(out).tolist(),
    )


def count_of(n: float, total: int) -> int:
    """How many of a pool were asked for: a number, or below 1 a share. Raises: OptionError for anything else."""
    whole = n >= 1 and float(n).is_integer()
    count = int(n) if whole else int(round(n * total, 9)) if 0 < n < 1 else 0  # 0.29 * 100 is 28.999999999999996
    if not 1 <= count <= total:
        what = f"expected a whole number of 1 to {total}, the samples of the pool, or a share of them below 1"
        raise OptionError(f"{what}, found {n:g}: choose another")
    return count


def attractors(scores: PoolScores, class_confidence: float) -> Array:
    """Classes of whose images the teacher is less sure on average, over the whole pool: strangers are taken for them.

    Shapes: (c,) of truth values; a class without an image is none.
    """
    read = scores.label >= 0
    count = np.bincount(scores.label[read], minlength=scores.num_classes)
    total = np.bincount(scores.label[read], weights=scores.confidence[read], minlength=scores.num_classes)
    found: Array = total < class_confidence * count
    return found


def _place_in_class(labels: Array) -> Array:
    """How many of the same label stand before each: ``[0, 1, 0, 0] -> [0, 0, 1, 2]``."""
    order = np.argsort(labels, kind="stable")
    start = np.searchsorted(labels[order], labels[order], side="left")
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels)) - start
    return place
