"""A teacher's scores of a pool of unlabelled images, larger than memory, kept shard by shard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from graphkd.data.fingerprint import canonical, data_fingerprint, differences, digest, order_fingerprint
from graphkd.data.sources import ImageSource, source_subset
from graphkd.data.store.format import class_terms, read_json, read_pair, write_json, write_pair
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import Transform
from graphkd.data.views import Views
from graphkd.errors import DataError, MissingFeatureError, OptionError, StoreError
from graphkd.features import Features
from graphkd.files import local_path
from graphkd.registry import Registry
from graphkd.teachers.base import Teacher
from graphkd.typing import Float, Tensor

Array: TypeAlias = "np.ndarray[Any, Any]"
Read = Callable[[Sequence[int]], Iterator[Features]]
_MANIFEST = "scores.json"


def _itself(key: Array) -> Array:
    return key


@dataclass(frozen=True)
class Score:
    """A ranking of samples.

    Args:
        key: logits in float64 -> what samples are ranked by.
        value: key -> the same in the units that a penalty is subtracted from; default the key itself.

    Shapes: logits (b, c) -> (b,).
    """

    key: Callable[[Tensor], Tensor]
    value: Callable[[Array], Array] = _itself


SCORES: Registry[Score] = Registry("selection score")


def log_confidence(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """log max p: separates samples where max p itself has rounded to 1."""
    return logits.log_softmax(-1).amax(-1)


def negative_entropy(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """sum p log p, at most 0."""
    entropy: Tensor = torch.special.entr(logits.softmax(-1)).sum(-1)
    return -entropy


def margin(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Distance of the two best probabilities, in [0, 1]."""
    best = logits.softmax(-1).topk(min(2, logits.shape[-1])).values
    return best[:, 0] - best[:, 1:].sum(-1)


SCORES.register("confidence")(Score(log_confidence, np.exp))
SCORES.register("ce")(Score(log_confidence))  # DFND's: minus the cross-entropy with the teacher's own label
SCORES.register("entropy")(Score(negative_entropy))
SCORES.register("margin")(Score(margin))


@dataclass(frozen=True)
class PoolScores:
    """What is known of each sample of a pool, and what it was made with.

    Args:
        key: what samples are ranked by, float64.
        label: the teacher's class.
        confidence: max p, in [0, 1].
        typical: largest cosine of the embedding with a class proxy; NaN where the teacher has none.
        score: the ranking.
        made: fingerprints of teacher, transform, data, order, dtype and score.
        ids: of the samples.
        num_classes, classes: as of the teacher.
        read: features of samples at positions, in batches; computed or read again.

    Shapes: key, label, confidence, typical (n,).
    """

    key: Array
    label: Array
    confidence: Array
    typical: Array
    score: Score
    made: Mapping[str, str]
    ids: Sequence[str]
    num_classes: int
    classes: Sequence[str] | None
    read: Read

    def __len__(self) -> int:
        return len(self.key)

    def embeddings(self, positions: Sequence[int]) -> Array:
        """Embeddings of some samples, asked for again: a pool's are never kept. Shapes: (m, d)."""
        return torch.cat([each.tensor("embedding", "selection") for each in self.read(positions)]).numpy(force=True)


def score_pool(
    teacher: Teacher | EmbeddingStore,
    source: ImageSource,
    path: str | Path | None = None,
    *,
    transform: Transform | None = None,
    score: str = "confidence",
    batch_size: int = 256,
    workers: int = 0,
    shard_size: int = 8192,
    device: torch.device | str | None = None,
) -> PoolScores:
    """Score every sample once; four numbers of each are kept, so the pool may be larger than memory.

    The result does not depend on the batch size beyond the teacher's own rounding.

    Args:
        teacher: asked batch by batch; or a store of its features, read batch by batch.
        source: the pool.
        path: folder for the scores, shard by shard: finished shards are not computed again; ``None`` keeps no file.
        transform: image -> tensor in [0, 1], without augmentation; needed with a teacher.
        score: ``"confidence"`` (default), ``"ce"`` (ranks alike), ``"entropy"``, ``"margin"``.
        batch_size: samples per forward pass.
        workers: processes that decode.
        shard_size: samples per file; part of what the folder is refused by.
        device: where to move teacher and images; ``None`` leaves them.

    Raises: StoreError if the folder or the store was made with something else (each difference named); DataError
        for logits that are not finite (samples named); MissingFeatureError for a teacher without classes.
    Example: ``scores = score_pool(teacher, open_folder("photos"), "scores", transform=CenterView(224))``
    """
    if batch_size < 1 or shard_size < 1:
        raise OptionError(f"expected batch_size and shard_size >= 1, found {batch_size} and {shard_size}")
    if teacher.num_classes is None:
        raise MissingFeatureError("selection needs the teacher's logits, and this teacher has no classes")
    ranking = SCORES.get(score)
    read = _reader(teacher, source, transform, batch_size, workers, device)
    made = {**made_with(teacher, source, transform), "score": score}
    shards = _Shards(None if path is None else local_path(path), made, shard_size)
    parts: list[Mapping[str, Array]] = []
    for number, start in enumerate(range(0, len(source), shard_size)):
        span = range(start, min(start + shard_size, len(source)))
        rows = shards.find(number)
        if rows is None:
            rows = _joined([scored(each, ranking) for each in read(span)])
            _check_finite(rows["key"], [source.ids[i] for i in span])
            shards.put(number, rows)
        parts.append(rows)
    known = {"score": ranking, "made": made, "ids": source.ids, "read": read}
    return PoolScores(**_joined(parts), **known, num_classes=teacher.num_classes, classes=teacher.classes)  # type: ignore[arg-type]


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


def refuse(where: str, made: Mapping[str, str], asked: Mapping[str, str], remedy: str) -> None:
    """Raises: StoreError that names each thing in which a file and a run differ."""
    found = [each.replace("the store was", "it was", 1) for each in differences(made, asked)]
    if found:
        raise StoreError(f"{where} belongs to something else: {'; '.join(found)}. {remedy}")


def _reader(
    teacher: Teacher | EmbeddingStore,
    source: ImageSource,
    transform: Transform | None,
    batch_size: int,
    workers: int,
    device: torch.device | str | None,
) -> Read:
    if isinstance(teacher, EmbeddingStore):
        if transform is not None:
            teacher.check(transform=transform)
        store = teacher.for_source(source)
        return lambda span: (store[span[i : i + batch_size]] for i in range(0, len(span), batch_size))
    if transform is None:
        raise OptionError("a teacher is asked about images: give transform=..., such as CenterView(224)")
    if device is not None:
        teacher.to(device)

    def ask(span: Sequence[int]) -> Iterator[Features]:
        views = Views(source_subset(source, span), student=transform)
        for batch in views.loader(batch_size, shuffle=False, drop_last=False, workers=workers):
            yield teacher(batch.student if device is None else batch.student.to(device))

    return ask


def scored(features: Features, ranking: Score) -> dict[str, Array]:
    """The four numbers of each sample, computed in float64."""
    logits = features.tensor("logits", "selection").double()
    found = {
        "key": ranking.key(logits),
        "label": logits.argsort(dim=-1, descending=True, stable=True)[:, 0],  # equal logits: the lower class
        "confidence": log_confidence(logits).exp(),
        "typical": _typical(features),
    }
    return {name: value.numpy(force=True) for name, value in found.items()}


def _typical(features: Features) -> Float[Tensor, " b"]:
    embedding, proxies = features.tensor("embedding", "selection").double(), features.proxies
    if proxies is None:
        return torch.full_like(embedding[:, 0], float("nan"))
    units = (torch.nn.functional.normalize(each.to(embedding), eps=1e-30) for each in (embedding, proxies))
    return (next(units) @ next(units).T).amax(-1)


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}


def _check_finite(key: Array, ids: Sequence[str]) -> None:
    broken = [name for name, good in zip(ids, np.isfinite(key), strict=True) if not good]
    if broken:
        raise DataError(
            f"the teacher's logits are not finite for {len(broken)} samples: {', '.join(broken[:5])}; nothing of their "
            "shard is kept: check these images and the teacher's precision"
        )


class _Shards:
    """Finished shards of a folder, each with a JSON sidecar that makes it count; without a folder, none."""

    def __init__(self, folder: Path | None, made: Mapping[str, str], shard_size: int) -> None:
        self.folder, terms = folder, {**made, "shard size": str(shard_size)}
        self.identity = digest(canonical(terms))
        if folder is None:
            return
        if (folder / _MANIFEST).is_file():
            body, _ = read_json(folder / _MANIFEST)
            made_of = body.get("made")
            if not isinstance(made_of, dict) or not all(isinstance(text, str) for text in made_of.values()):
                raise StoreError(f"{folder / _MANIFEST} is no manifest of scores: delete this folder and score again")
            refuse(str(folder), made_of, terms, "Choose another folder for the scores, or delete this one")
        else:
            write_json(folder / _MANIFEST, {"made": terms})

    def find(self, number: int) -> dict[str, Array] | None:
        """A shard that is there, whole, and of this very run."""
        if self.folder is None:
            return None
        try:
            found: dict[str, Array] = load(read_pair(self._path(number), of=self.identity)[1].tobytes())
        except (StoreError, SafetensorError):
            return None
        return found

    def put(self, number: int, rows: Mapping[str, Array]) -> None:
        """Write one shard, then its sidecar."""
        if self.folder is not None:
            data = save({name: np.ascontiguousarray(each) for name, each in rows.items()})
            write_pair(self._path(number), data, of=self.identity)

    def _path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"scores-{number:05d}"
