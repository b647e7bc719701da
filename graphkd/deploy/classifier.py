"""A classifier as it is used: its scores, the names of its classes, and what it is shown of an image."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource
from graphkd.data.tolerant import Portion, TolerantViews, Unread
from graphkd.data.transforms import Transform
from graphkd.data.views import Batch, Views
from graphkd.errors import NonFiniteError, OptionError, ShapeError
from graphkd.training.metrics import class_scores
from graphkd.typing import Tensor


@dataclass(frozen=True)
class Classifier:
    """A network with all that is needed to ask it about an image.

    Args:
        model: from images in [0, 1] to class scores or Features: a student, a teacher, an ONNX session.
        classes: names in the order of the scores.
        view: what it is shown of an image.
        device: where it is.
        identity: JSON-ready, what determines its answers; a journal of predictions is continued by this very one only.

    Example: ``Classifier(student, ["cat", "dog"], CenterView(224))``
    """

    model: Callable[[Tensor], Any]
    classes: Sequence[str]
    view: Transform
    device: torch.device | str = "cpu"
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the classes, no two alike."""
        return Classes(self.classes).distinct


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one image.

    Args:
        name: of the image, as its source calls it.
        classes: the likeliest ones, best first.
        confidences: their probabilities (softmax of the scores), in [0, 1].
        error: why the image cannot be read; it has no classes then.
    """

    name: str
    classes: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()
    error: str | None = None


def predictions(
    classifier: Classifier,
    source: ImageSource,
    *,
    top: int = 3,
    batch_size: int = 64,
    workers: int = 0,
    start_batch: int = 0,
    on_error: Literal["skip", "stop"] = "skip",
    progress: Callable[[Any], Iterable[Any]] = iter,
) -> Generator[Prediction, None, None]:
    """What a classifier says of each image, in the order of the source; no more than a few batches are in memory.

    Args:
        top: classes of each image, at most as many as there are.
        batch_size: images per forward pass.
        workers: processes that load images.
        start_batch: first batch, to go on where an earlier pass ended.
        on_error: ``"skip"`` gives an image that cannot be read a prediction with its error, ``"stop"`` raises.
        progress: wraps the loader of batches, such as ``tqdm``.

    Raises: DataError for an unreadable image under ``"stop"``; NonFiniteError for scores that are NaN or infinite;
        ShapeError for another number of scores than classes.

    Example: ``for each in predictions(classifier, open_folder("photos")): print(each.name, each.classes[0])``
    """
    if top < 1 or on_error not in ("skip", "stop"):
        raise OptionError(f"expected top >= 1, on_error 'skip' or 'stop', found {top} and {on_error!r}")
    kind = TolerantViews if on_error == "skip" else Views
    loader = kind(source, student=classifier.view).loader(
        batch_size, shuffle=False, drop_last=False, workers=workers, start_batch=start_batch
    )
    unread: list[Unread] = []

    def readable() -> Generator[Batch, None, None]:
        for each in progress(loader):
            batch, bad = each if isinstance(each, Portion) else (each, [])
            unread.extend(bad)
            if batch is not None:
                yield batch

    names = classifier.names
    with closing(class_scores(classifier.model, readable(), classifier.device)) as found:
        for batch, logits in found:
            rows = [(each.index, Prediction(source.ids[each.index], error=each.error)) for each in unread]
            unread.clear()
            rows += zip(batch.index.tolist(), _best(logits, names, top, source.ids, batch), strict=True)
            yield from (each for _, each in sorted(rows, key=lambda row: row[0]))
    yield from (Prediction(source.ids[each.index], error=each.error) for each in unread)


def _best(logits: Tensor, names: list[str], top: int, ids: Sequence[str], batch: Batch) -> list[Prediction]:
    if logits.ndim != 2 or logits.shape[1] != len(names):
        raise ShapeError(f"expected scores (b, {len(names)}) for {len(names)} classes, found {tuple(logits.shape)}")
    if not bool(logits.isfinite().all()):
        first = ids[int(batch.index[0])]
        raise NonFiniteError(f"scores of the batch that begins with {first} are not finite: the network is damaged")
    values, labels = logits.float().softmax(1).topk(min(top, len(names)), dim=1)
    return [
        Prediction(ids[at], tuple(names[label] for label in row), tuple(round(value, 6) for value in confidences))
        for at, row, confidences in zip(batch.index.tolist(), labels.tolist(), values.tolist(), strict=True)
    ]


def names_digest(ids: Iterable[str]) -> str:
    """SHA-256 (hex) of names as they stand, one after the other."""
    found = hashlib.sha256()
    for name in ids:
        found.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return found.hexdigest()
