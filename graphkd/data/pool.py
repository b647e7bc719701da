"""What a teacher says of each image of a pool, in four numbers: streamed, and gone on with after a kill."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch

from graphkd.data.fingerprint import order_fingerprint, transform_fingerprint
from graphkd.data.sources import ImageSource
from graphkd.data.store.format import Array
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.tolerant import Portion, TolerantViews
from graphkd.data.transforms import Transform
from graphkd.data.views import Views
from graphkd.errors import DataError, FileError, MissingFeatureError, OptionError, StoreError
from graphkd.features import Features
from graphkd.files import write_file, writing
from graphkd.registry import unknown
from graphkd.teachers.base import Teacher
from graphkd.text import open_regular, parse_json

SCORES: Final = ["confidence", "margin", "entropy"]
_ROW = np.dtype([("label", "<i4"), ("log_confidence", "<f8"), ("margin", "<f8"), ("entropy", "<f8")])
_UNREAD = np.array((-1, np.nan, np.nan, np.nan), _ROW)
_KIND, _LONGEST = "graphkd scores of a pool", 1 << 20  # bytes of the first line of a file of scores
_NAMED = 5  # samples that a message names
_AGAIN = "remove it to begin anew, or choose another file to write"


@dataclass(frozen=True)
class PoolScores:
    r"""What a teacher says of each sample of a pool, with class probabilities :math:`p_1 \ge p_2 \ge \dots`

    Args:
        label: the teacher's class; -1 for an image that cannot be read.
        log_confidence: :math:`\log p_1`.
        margin: :math:`p_1 - p_2`.
        entropy: :math:`-\sum_k p_k \log p_k`, nats.
        ids: of the samples.
        num_classes, classes: as of the teacher.

    Shapes: label, log_confidence, margin, entropy (n,), the last three float64.
    """

    label: Array
    log_confidence: Array
    margin: Array
    entropy: Array
    ids: Sequence[str]
    num_classes: int
    classes: Sequence[str] | None

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def confidence(self) -> Array:
        """:math:`p_1`."""
        return np.exp(self.log_confidence)

    @property
    def unread(self) -> list[str]:
        """Ids of the images that cannot be read."""
        return [self.ids[at] for at in np.flatnonzero(self.label < 0).tolist()]

    def rank(self, score: str) -> Array:
        """What samples are ranked by, the best first.

        Args:
            score: ``"confidence"`` (its logarithm, which tells apart what rounds to 1), ``"margin"``, or ``"entropy"``
                (the lowest first).

        Shapes: (n,).
        Raises: UnknownNameError.
        """
        if score not in SCORES:
            raise unknown("score", score, SCORES)
        return {"confidence": self.log_confidence, "margin": self.margin, "entropy": -self.entropy}[score]

    def values(self, score: str) -> Array:
        """The score itself. Shapes: (n,)."""
        found: Array = getattr(self, score)
        return found


def score_pool(
    teacher: Teacher | EmbeddingStore,
    source: ImageSource | None = None,
    *,
    transform: Transform | None = None,
    batch_size: int = 256,
    workers: int = 0,
    device: torch.device | str | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    part: Path | None = None,
    progress: Callable[[Any], Iterable[Any]] = iter,
) -> PoolScores:
    """Score every sample once; four numbers of each are kept, and of a store no image is read.

    The result does not depend on the batch size beyond the teacher's own rounding.

    Args:
        teacher: asked batch by batch; or a store of its features, read batch by batch.
        source: the pool; of a store, ``None`` stands for all that it holds.
        transform: image -> tensor in [0, 1], without augmentation; needed with a teacher.
        batch_size: samples per forward pass.
        workers: processes that decode.
        device: where to move teacher and images; ``None`` leaves them.
        on_error: ``"skip"`` gives an image that cannot be read the label -1, ``"stop"`` raises.
        part: file that holds what a teacher has said so far; the same call goes on there after a kill. It stays, so
            that nothing is asked twice: remove it when the scores were used.
        progress: wraps the batches, such as ``tqdm``.

    Raises: StoreError if the store was made with something else (each difference named); DataError for logits that are
        not finite (samples named), and for an image that cannot be read; MissingFeatureError for a teacher without
        classes; FileError for a ``part`` of other images or of another teacher, and where the disk is full.
    Example: ``scores = score_pool(teacher, open_folder("photos"), transform=CenterView(224))``
    """
    if batch_size < 1 or on_error not in ("stop", "skip"):
        raise OptionError(f"expected batch_size >= 1, on_error 'stop' or 'skip', found {batch_size}, {on_error!r}")
    if teacher.num_classes is None:
        what = "selection needs the teacher's logits, and this teacher has no classes"
        raise MissingFeatureError(f"{what}: use a CLIP-like one, or a classifier")
    ids: Sequence[str]
    if isinstance(teacher, EmbeddingStore):
        rows, ids = _of_store(teacher, source, transform, batch_size, progress)
    else:
        if source is None or transform is None:
            raise OptionError("a teacher is asked about images: give source and transform=..., such as CenterView(224)")
        views = (TolerantViews if on_error == "skip" else Views)(source, student=transform)

        def asked(done: int) -> Iterator[Array]:
            options: dict[str, Any] = {"shuffle": False, "drop_last": False, "workers": workers}
            loader = views.loader(batch_size, **options, start_batch=-(-done // batch_size))
            return _asked(teacher, progress(loader), source.ids, device) if done < len(source) else iter(())

        if part is None:
            rows = np.concatenate(list(asked(0)))
        else:
            kept = ScoreFile(part)
            kept.write(asked(kept.begin(_facts(teacher, source, transform), len(source), batch_size)))
            rows = kept.read(len(source), teacher.num_classes)
        ids = source.ids
    columns: dict[str, Array] = {name: rows[name] for name in _ROW.fields or ()}
    return PoolScores(**columns, ids=ids, num_classes=teacher.num_classes, classes=teacher.classes)


def scored(features: Features) -> dict[str, Array]:
    """The four numbers of each sample, computed in float64."""
    logits = features.tensor("logits", "selection").double()
    logs = logits.log_softmax(-1)
    best = logs.topk(min(2, logs.shape[-1]), dim=-1).values.exp()
    found = {
        "label": logits.argsort(dim=-1, descending=True, stable=True)[:, 0],  # equal logits: the lower class
        "log_confidence": logs.amax(-1),
        "margin": 2 * best[:, 0] - best.sum(-1),
        "entropy": torch.special.entr(logs.exp()).sum(-1),
    }
    return {name: value.numpy(force=True) for name, value in found.items()}


def _rows(features: Features, ids: Sequence[str]) -> Array:
    """The same as rows. Raises: DataError that names samples whose logits are not finite."""
    found = scored(features)
    rows = np.empty(len(ids), _ROW)
    for name, values in found.items():
        rows[name] = values
    if broken := [ids[at] for at in np.flatnonzero(~np.isfinite(rows["log_confidence"])).tolist()]:
        raise DataError(
            f"the teacher's logits are not finite for {len(broken)} samples: {', '.join(broken[:_NAMED])}: check these "
            "images and the teacher's precision"
        )
    return rows


def _of_store(
    store: EmbeddingStore,
    source: ImageSource | None,
    transform: Transform | None,
    batch_size: int,
    progress: Callable[[Any], Iterable[Any]],
) -> tuple[Array, Sequence[str]]:
    if store.views > 1:
        raise StoreError(f"{store.path} holds {store.views} views of each image, and one is scored: embed the centre")
    if transform is not None:
        store.check(transform=transform)
    found = store if source is None else store.for_source(source)
    ids = store.ids if source is None else source.ids
    spans = [range(len(ids))[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    return np.concatenate([_rows(found[span], ids[span.start : span.stop]) for span in progress(spans)]), ids


def _asked(
    teacher: Teacher, loader: Iterable[Any], ids: Sequence[str], device: torch.device | str | None
) -> Iterator[Array]:
    """What the teacher says of each batch; a batch is of samples that follow each other."""
    if device is not None:
        teacher.to(device)
    for each in loader:
        batch, unread = each if isinstance(each, Portion) else (each, [])
        index = [] if batch is None else batch.index.tolist()
        first = min(index + [each.index for each in unread])
        rows = np.full(len(index) + len(unread), _UNREAD)
        if batch is not None:
            images = batch.student if device is None else batch.student.to(device)
            rows[np.array(index) - first] = _rows(teacher(images), [ids[at] for at in index])
        yield rows


def _facts(teacher: Teacher, source: ImageSource, transform: Transform) -> dict[str, Any]:
    """What decides the scores, by the names that a message gives them."""
    return {
        "teacher": teacher.fingerprint(),
        "classes": None if teacher.classes is None else list(teacher.classes),
        "view": transform_fingerprint(transform),
        "images": order_fingerprint(source.ids),
        "root": os.path.abspath(getattr(source, "root", "")),
    }


class ScoreFile:
    """Scores of a pool while they are computed: a line of JSON that says of what, then 28 bytes a sample.

    A kill cuts at most the last batch, which :meth:`begin` removes.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, facts: Mapping[str, Any], count: int, batch_size: int) -> int:
        """Begin, or cut an earlier file after its last whole batch; returns how many samples it holds.

        Args:
            facts: JSON-ready, what decides the scores.
            count: samples in all.

        Raises: FileError for a file of other scores, which names what differs.
        """
        asked = {"kind": _KIND, **json.loads(json.dumps(facts))}
        if not self.path.exists():
            write_file(self.path, json.dumps(asked) + "\n")
            return 0
        head, found = self._head()
        if differs := [name for name in asked if asked[name] != found.get(name)]:
            raise FileError(f"{self.path} was begun with other {' and '.join(differs)}: {_AGAIN}")
        rows = (self.path.stat().st_size - head) // _ROW.itemsize
        rows = count if rows >= count else rows - rows % batch_size
        with writing(self.path), self.path.open("r+b") as file:
            file.truncate(head + rows * _ROW.itemsize)
        return rows

    def _head(self) -> tuple[int, dict[str, Any]]:
        """Bytes of the first line, and what it says. Raises: FileError for a file that is none of ours."""
        with open_regular(self.path) as file:
            line = file.readline(_LONGEST)
        try:
            found = parse_json(line) if line.endswith(b"\n") else None
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("kind") != _KIND:
            raise FileError(f"{self.path} holds no scores of a pool: {_AGAIN}")
        return len(line), found

    def write(self, batches: Iterable[Array]) -> None:
        """Add scores, batch by batch. Raises: FileError where the disk is full; whole batches are kept."""
        how = writing(self.path, "Whole batches are kept", "run the same command again: it goes on there")
        with how, self.path.open("ab") as file:
            for rows in batches:
                file.write(rows.tobytes())
                file.flush()

    def read(self, count: int, classes: int) -> Array:
        """All scores. Raises: FileError for a damaged file."""
        rows = np.fromfile(self.path, _ROW, offset=self._head()[0])
        if len(rows) != count or not ((rows["label"] >= -1) & (rows["label"] < classes)).all():
            raise FileError(f"{self.path} is damaged: {_AGAIN}")
        return rows
