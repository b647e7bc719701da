"""Which images of an unlabelled pool to distil on: scored by the teacher, balanced over its classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from graphkd.data.sources import ImageSource, SourceSubset, source_subset
from graphkd.data.store.format import Array, read_pair, write_pair
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import Transform
from graphkd.data.views import Views
from graphkd.errors import DataError, MissingFeatureError, OptionError, StoreError
from graphkd.features import Features
from graphkd.files import local_path
from graphkd.registry import unknown
from graphkd.teachers.base import Teacher
from graphkd.typing import Bool, Tensor

_BALANCES = ["class", "global"]
_ARRAYS = ("indices", "scores", "labels", "confidences")


@dataclass(frozen=True)
class PoolScores:
    """What is known of each sample of a pool.

    Args:
        key: what samples are ranked by: log max p, float64.
        label: the teacher's class.
        ids: of the samples.
        num_classes, classes: as of the teacher.

    Shapes: key, label (n,).
    """

    key: Array
    label: Array
    ids: Sequence[str]
    num_classes: int
    classes: Sequence[str] | None

    def __len__(self) -> int:
        return len(self.key)


def score_pool(
    teacher: Teacher | EmbeddingStore,
    source: ImageSource,
    *,
    transform: Transform | None = None,
    batch_size: int = 256,
    workers: int = 0,
    device: torch.device | str | None = None,
) -> PoolScores:
    """Score every sample once by the teacher's confidence; two numbers of each are kept.

    A pool that takes hours is embedded first: ``embed`` goes on after an interruption, and its store is scored in
    seconds. The result does not depend on the batch size beyond the teacher's own rounding.

    Args:
        teacher: asked batch by batch; or a store of its features, read batch by batch.
        source: the pool.
        transform: image -> tensor in [0, 1], without augmentation; needed with a teacher.
        batch_size: samples per forward pass.
        workers: processes that decode.
        device: where to move teacher and images; ``None`` leaves them.

    Raises: StoreError if the store was made with something else (each difference named); DataError for logits that are
        not finite (samples named); MissingFeatureError for a teacher without classes.
    Example: ``scores = score_pool(teacher, open_folder("photos"), transform=CenterView(224))``
    """
    if batch_size < 1:
        raise OptionError(f"expected batch_size >= 1, found {batch_size}")
    if teacher.num_classes is None:
        raise MissingFeatureError("selection needs the teacher's logits, and this teacher has no classes")
    parts = [scored(each) for each in _features(teacher, source, transform, batch_size, workers, device)]
    key, label = (np.concatenate([each[name] for each in parts]) for name in ("key", "label"))
    if broken := [source.ids[at] for at in np.flatnonzero(~np.isfinite(key)).tolist()]:
        raise DataError(
            f"the teacher's logits are not finite for {len(broken)} samples: {', '.join(broken[:5])}: check these "
            "images and the teacher's precision"
        )
    return PoolScores(key, label, source.ids, teacher.num_classes, teacher.classes)


def scored(features: Features) -> dict[str, Array]:
    """Key and label of each sample, computed in float64."""
    logits = features.tensor("logits", "selection").double()
    key = logits.log_softmax(-1).amax(-1)
    label = logits.argsort(dim=-1, descending=True, stable=True)[:, 0]  # equal logits: the lower class
    return {"key": key.numpy(force=True), "label": label.numpy(force=True)}


def _features(
    teacher: Teacher | EmbeddingStore,
    source: ImageSource,
    transform: Transform | None,
    batch_size: int,
    workers: int,
    device: torch.device | str | None,
) -> Iterator[Features]:
    """What the teacher says of the pool, batch by batch."""
    if isinstance(teacher, EmbeddingStore):
        if transform is not None:
            teacher.check(transform=transform)
        store, positions = teacher.for_source(source), range(len(source))
        for start in positions[::batch_size]:
            yield store[positions[start : start + batch_size]]
        return
    if transform is None:
        raise OptionError("a teacher is asked about images: give transform=..., such as CenterView(224)")
    if device is not None:
        teacher.to(device)
    loader = Views(source, student=transform).loader(batch_size, shuffle=False, drop_last=False, workers=workers)
    for batch in loader:
        yield teacher(batch.student if device is None else batch.student.to(device))


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

    def images(self, source: ImageSource) -> SourceSubset:
        """The chosen images of the pool. Raises: StoreError for a source that is not the pool, sample for sample."""
        if self.indices.max() >= len(source) or [source.ids[at] for at in self.indices] != self.ids:
            raise StoreError("this selection was made of other images, or in another order: select again")
        return source_subset(source, self.indices.tolist())

    def save(self, path: str | Path) -> None:
        """Write ``selection.safetensors`` and ``selection.json`` into a folder, each at once or not at all."""
        about = {"ids": self.ids, "histogram": self.histogram, "classes": self.classes}
        about |= {"options": dict(self.options)}
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
        options={"n": n, "balance": balance},
        classes=None if scores.classes is None else list(scores.classes),
    )
