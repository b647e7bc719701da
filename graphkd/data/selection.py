"""Which images of an unlabelled pool to distil on: scored by the teacher, balanced over its classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from graphkd.data.fingerprint import differences
from graphkd.data.pool import Array, PoolScores, made_with
from graphkd.data.sources import ImageSource
from graphkd.data.store.format import read_pair, write_pair
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import Transform
from graphkd.errors import OptionError, StoreError
from graphkd.files import local_path
from graphkd.registry import unknown
from graphkd.teachers.base import Teacher
from graphkd.typing import Bool, Tensor

_BALANCES = ["class", "global"]
_ARRAYS = ("indices", "scores", "labels", "confidences")


@dataclass(frozen=True)
class Selection:
    """Samples chosen from a pool, and what they were chosen with.

    Args:
        indices: positions in the pool, ascending: ``source_subset(source, selection.indices)``.
        scores: what they were ranked by.
        labels: the teacher's class of each.
        confidences: the teacher's max p of each.
        ids: names of the samples.
        histogram: samples chosen per class.
        made: fingerprints of teacher, transform, data, order and dtype.
        options: as of :func:`select`.

    Shapes: indices, scores, labels, confidences (n,), histogram (c,).
    """

    indices: Array
    scores: Array
    labels: Array
    confidences: Array
    ids: list[str]
    histogram: list[int]
    made: Mapping[str, str]
    options: Mapping[str, Any]
    classes: list[str] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def report(self) -> str:
        """The realised histogram, the emptiest classes first, and the confidence."""
        names = self.classes or [str(number) for number in range(len(self.histogram))]
        counts = sorted(zip(self.histogram, names, strict=True))
        each = ", ".join(f"{name} {count}" for count, name in counts)
        low, mean = self.confidences.min(), self.confidences.mean()
        return f"{len(self)} samples, confidence {mean:.3f} on average, {low:.3f} at least; per class: {each}"

    def trusted_classes(self, *, min_samples: int = 1, min_confidence: float = 0.0) -> Bool[Tensor, " c"]:
        """Classes with enough samples that are certain enough on average; for ``DatasetClasses``."""
        total = np.bincount(self.labels, weights=self.confidences, minlength=len(self.histogram))
        count = np.asarray(self.histogram)
        return torch.from_numpy((count >= min_samples) & (total >= min_confidence * count))

    def check(
        self,
        *,
        teacher: Teacher | EmbeddingStore | None = None,
        source: ImageSource | None = None,
        transform: Transform | None = None,
    ) -> None:
        """Compare with what a run is about to use; what is not given is not compared.

        Raises: StoreError that names each difference.
        """
        asked = made_with(teacher, source, transform)
        found = differences({name: self.made[name] for name in asked if name in self.made}, asked)
        if found:
            texts = "; ".join(found).replace("the store was", "it was")
            raise StoreError(f"this selection belongs to something else: {texts}. Select again, or use what it fits")

    def save(self, path: str | Path) -> None:
        """Write ``selection.safetensors`` and ``selection.json`` into a folder, each at once or not at all."""
        about = {"ids": self.ids, "histogram": self.histogram, "classes": self.classes}
        about |= {"made": dict(self.made), "options": dict(self.options)}
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


def select(scores: PoolScores, n: int = 50_000, *, balance: str = "class") -> Selection:
    r"""The n best samples.

    .. math:: S = \bigcup_k \mathrm{best}_{\lfloor n/K \rfloor} \{x : c(x) = k\} \;\cup\; \text{the best of the rest}

    EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.
    Equal scores are ranked by position, so the same pool and teacher give the same selection.

    Args:
        scores: of the pool.
        n: samples to choose.
        balance: ``"class"`` (default: a quota of n / K for each of the teacher's classes, filled up with the best of
            the rest where a class has fewer) or ``"global"`` (DFND).

    Raises: OptionError if the pool has fewer than n samples; UnknownNameError for another balance.
    Example: ``selection = select(score_pool(teacher, pool, transform=view), 50_000)``
    """
    if not 1 <= n <= len(scores):
        raise OptionError(f"expected 1 <= n <= {len(scores)}, the samples of the pool, found {n}: choose another n")
    if balance not in _BALANCES:
        raise unknown("balance", balance, _BALANCES)
    order = np.argsort(-scores.key, kind="stable")
    quota, labels = n // scores.num_classes if balance == "class" else 0, scores.label[order]
    chosen = np.concatenate([order[labels == number][:quota] for number in range(scores.num_classes)])
    rest = order[~np.isin(order, chosen)]
    indices = np.sort(np.concatenate([chosen, rest[: n - len(chosen)]])).astype(np.int64)
    return Selection(
        indices=indices,
        scores=scores.key[indices],
        labels=scores.label[indices],
        confidences=np.exp(scores.key[indices]),
        ids=[scores.ids[i] for i in indices],
        histogram=np.bincount(scores.label[indices], minlength=scores.num_classes).tolist(),
        made=scores.made,
        options={"n": n, "balance": balance},
        classes=None if scores.classes is None else list(scores.classes),
    )
