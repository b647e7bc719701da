"""Which images of an unlabelled pool to distil on: scored by the teacher, balanced over its classes, spread out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from graphkd.data.pool import Array, PoolScores, made_with, refuse
from graphkd.data.sources import ImageSource
from graphkd.data.store.format import read_pair, write_pair
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import Transform
from graphkd.errors import MissingFeatureError, OptionError, StoreError
from graphkd.files import local_path
from graphkd.registry import Registry
from graphkd.teachers.base import Teacher
from graphkd.typing import Bool, Tensor

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
        made: fingerprints of teacher, transform, data, order, dtype and score.
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
        made = {name: text for name, text in self.made.items() if self._concerns(name, teacher, source, transform)}
        refuse("this selection", made, asked, "Select again, or use what it was made with")

    def _concerns(self, name: str, teacher: Any, source: Any, transform: Any) -> bool:
        if name in ("data", "order of samples"):
            return source is not None
        if name == "transform":
            return transform is not None or isinstance(teacher, EmbeddingStore)
        return name != "score" and teacher is not None

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
            return cls(**{**load(raw.tobytes()), **body})
        except (TypeError, SafetensorError) as error:
            raise StoreError(f"{path} holds no selection ({error}): select again") from error


def select(
    scores: PoolScores,
    n: int = 50_000,
    *,
    balance: str = "class",
    band: tuple[float, float] = (0.0, 1.0),
    penalty: float = 0.0,
    spread: int = 1,
) -> Selection:
    r"""The n best samples.

    .. math:: S = \bigcup_k \mathrm{best}_{\lfloor n/K \rfloor} \{x : c(x) = k\} \;\cup\; \text{the best of the rest}

    EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction.
    Equal scores are ranked by position, so the same pool and teacher give the same selection.

    Args:
        scores: of the pool.
        n: samples to choose.
        balance: ``"class"`` (default: a quota of n / K for each of the teacher's classes, filled up with the best of
            the rest where a class has fewer) or ``"global"`` (DFND).
        band: smallest and largest confidence, in [0, 1]; others are never chosen.
        penalty: mu >= 0; the score loses mu times the largest cosine with a class proxy, so that samples that are all
            alike a prototype lose to others; default off.
        spread: >= 1; from the ``spread`` times as many best, take those that are far from each other (greedy k-center
            on the cosines of embeddings, the best first), quota by quota. Embeddings of the candidates of one quota
            are in memory; the work is (candidates x chosen) of each; default 1, off.

    Raises: OptionError if fewer than n samples are in the band, UnknownNameError, MissingFeatureError for a penalty
        without proxies.
    Example: ``selection = select(score_pool(teacher, pool, "scores", transform=view), 50_000)``
    """
    if n < 1 or penalty < 0 or spread < 1 or not 0 <= band[0] <= band[1] <= 1:
        raise OptionError(
            f"expected n >= 1, penalty >= 0, spread >= 1 and a band in [0, 1], found {n}, {penalty}, {spread}, {band}"
        )
    rank = _rank(scores, penalty)
    order = _eligible(scores, rank, n, band)
    groups = BALANCES.get(balance)(order, scores, n)
    chosen = np.concatenate([_spread(scores, group, quota, spread) for group, quota in groups])
    rest = order[~np.isin(order, chosen)]
    indices = np.sort(np.concatenate([chosen, rest[: n - len(chosen)]])).astype(np.int64)
    histogram = np.bincount(scores.label[indices], minlength=scores.num_classes)
    return Selection(
        indices=indices,
        scores=rank[indices],
        labels=scores.label[indices],
        confidences=scores.confidence[indices],
        ids=[scores.ids[i] for i in indices],
        histogram=histogram.tolist(),
        made=scores.made,
        options={"n": n, "balance": balance, "band": list(band), "penalty": penalty, "spread": spread},
        classes=None if scores.classes is None else list(scores.classes),
    )


def _rank(scores: PoolScores, penalty: float) -> Array:
    """What samples are chosen by."""
    if not penalty:
        return scores.key
    if np.isnan(scores.typical).any():
        raise MissingFeatureError("penalty=... needs the teacher's proxies, and it has none: use spread=4 instead")
    return scores.score.value(scores.key) - penalty * scores.typical


def _eligible(scores: PoolScores, rank: Array, n: int, band: tuple[float, float]) -> Array:
    """Samples in the band, best first, equal ones by position."""
    order = np.argsort(-rank, kind="stable")
    order = order[(scores.confidence[order] >= band[0]) & (scores.confidence[order] <= band[1])]
    if len(order) < n:
        raise OptionError(
            f"{n} samples were asked for and {len(order)} of {len(scores)} have a confidence in {band}: "
            "lower n, or widen the band"
        )
    return order


Groups = Sequence[tuple[Array, int]]
BALANCES: Registry[Callable[[Array, PoolScores, int], Groups]] = Registry("balance")


@BALANCES.register("class")
def _by_class(order: Array, scores: PoolScores, n: int) -> Groups:
    """Each class with its quota."""
    labels = scores.label[order]
    return [(order[labels == number], n // scores.num_classes) for number in range(scores.num_classes)]


@BALANCES.register("global")
def _at_once(order: Array, scores: PoolScores, n: int) -> Groups:
    """Everything as one group."""
    return [(order, n)]


def _spread(scores: PoolScores, ranked: Array, quota: int, factor: int) -> Array:
    """``quota`` of the ``factor * quota`` best, far from each other; the best where there is no choice."""
    candidates = ranked[: factor * quota]
    if len(candidates) <= quota or factor == 1 or not quota:
        return candidates[:quota]
    x = scores.embeddings(candidates.tolist()).astype(np.float64)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    chosen, nearest = [0], x @ x[0]
    nearest[0] = np.inf
    while len(chosen) < quota:
        chosen.append(int(nearest.argmin()))  # the first of several: the better ranked
        nearest = np.maximum(nearest, x @ x[chosen[-1]])
        nearest[chosen[-1]] = np.inf
    return candidates[chosen]
