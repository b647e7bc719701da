"""A teacher's scores of a pool of unlabelled images, which may be larger than memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from graphkd.data.fingerprint import canonical, class_terms, data_fingerprint, order_fingerprint
from graphkd.data.sources import ImageSource
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import Transform
from graphkd.data.views import Views
from graphkd.errors import DataError, MissingFeatureError, OptionError
from graphkd.features import Features
from graphkd.teachers.base import Teacher

Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class PoolScores:
    """What is known of each sample of a pool, and what it was made with.

    Args:
        key: what samples are ranked by: log max p, float64.
        label: the teacher's class.
        made: fingerprints of teacher, transform, data, order and dtype.
        ids: of the samples.
        num_classes, classes: as of the teacher.

    Shapes: key, label (n,).
    """

    key: Array
    label: Array
    made: dict[str, str]
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
    return PoolScores(
        key, label, made_with(teacher, source, transform), source.ids, teacher.num_classes, teacher.classes
    )


def scored(features: Features) -> dict[str, Array]:
    """Key and label of each sample, computed in float64."""
    logits = features.tensor("logits", "selection").double()
    key = logits.log_softmax(-1).amax(-1)
    label = logits.argsort(dim=-1, descending=True, stable=True)[:, 0]  # equal logits: the lower class
    return {"key": key.numpy(force=True), "label": label.numpy(force=True)}


def made_with(
    teacher: Teacher | EmbeddingStore | None, source: ImageSource | None, transform: Transform | None
) -> dict[str, str]:
    """What scores depend on, as comparable texts; what is not given is left out."""
    made: dict[str, str] = {}
    if isinstance(teacher, EmbeddingStore):
        made |= teacher.manifest.teacher | class_terms(teacher.classes)
        made |= {"transform": teacher.manifest.transform, "dtype": teacher.manifest.dtype}
    elif teacher is not None:
        made |= teacher.fingerprint() | class_terms(teacher.classes) | {"dtype": "float32"}
    if transform is not None:
        made |= {"transform": canonical(transform.spec)}
    if source is not None:
        made |= {"data": f"{len(source)} samples, fingerprint {data_fingerprint(source)}"}
        made |= {"order of samples": order_fingerprint(source.ids)}
    return made


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
