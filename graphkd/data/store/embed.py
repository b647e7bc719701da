"""Ask a teacher about every image once, and keep the answers."""

import os
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from graphkd.data.fingerprint import data_fingerprint, order_fingerprint, transform_fingerprint
from graphkd.data.seeds import derived_seed
from graphkd.data.sources import ImageSource
from graphkd.data.store.format import (
    MANIFEST,
    Manifest,
    check_dtype,
    check_shards,
    largest_shard,
    missing_files,
    row_bytes,
)
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.write import Share, StoreWriter, one_store_writer, require_same
from graphkd.data.transforms import RandomTransform, Transform
from graphkd.errors import DataError, OptionError
from graphkd.files import local_path
from graphkd.teachers.base import Teacher
from graphkd.typing import Float, Tensor

_FILES = 32  # so that an interruption costs 3 %, and a batch in random order finds many rows in each
_LEAST = 4096  # samples of a shard, where fewer would make more files than they are worth


class Seen(NamedTuple):
    """Some samples as a teacher sees them, the views of each in sequence.

    Args:
        images: all views.
        drawn: the numbers that describe each view's augmentation; of width 0 for a transform that keeps none.
        content: a hash of each sample's bytes.

    Shapes: images (b * v, 3, h, w), drawn (b * v, p).
    """

    images: Float[Tensor, "bv 3 h w"]
    drawn: Float[Tensor, "bv p"]
    content: list[str]


Sample = tuple[int, Tensor, Tensor, str]


class Samples(Dataset[Sample]):
    """Position, views, draws and content hash of each sample.

    Args:
        source: the images.
        transform: image -> view; what it draws depends on the sample's id and the view's number only.
        views: of each image.
    """

    def __init__(self, source: ImageSource, transform: Transform, views: int) -> None:
        self.source, self.transform, self.views = source, transform, views

    def __getitem__(self, index: int) -> Sample:
        image, name = self.source.image(index), self.source.ids[index]
        views, draws = [], []
        with torch.random.fork_rng(devices=[]):
            for number in range(self.views):
                torch.default_generator.manual_seed(derived_seed(name, number))
                if isinstance(self.transform, RandomTransform):
                    draws.append(self.transform.draw(image))
                    views.append(self.transform.apply(image, draws[-1]))
                else:
                    views.append(self.transform(image))
        drawn = torch.tensor(draws, dtype=torch.float32) if draws else torch.empty(self.views, 0)
        return index, torch.stack(views), drawn, self.source.content_hash(index)

    def collate(self, samples: list[Sample]) -> Seen:
        """A batch of samples."""
        first, views, _, _ = samples[0]
        for index, other, _, _ in samples:
            if other.shape != views.shape:
                raise DataError(
                    f"expected views of one size, found {tuple(views.shape[1:])} of {self.source.ids[first]} and "
                    f"{tuple(other.shape[1:])} of {self.source.ids[index]}: let the transform resize"
                )
        return Seen(
            torch.cat([views for _, views, _, _ in samples]),
            torch.cat([drawn for _, _, drawn, _ in samples]),
            [content for _, _, _, content in samples],
        )

    def loader(self, batches: list[list[int]], workers: int) -> "DataLoader[Sample]":
        """These samples, batch by batch."""
        return DataLoader(
            self,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=self.collate,
            generator=torch.Generator(),  # the caller's random state stays as it is
        )


@dataclass(frozen=True)
class EmbedJob:
    """What a teacher is to embed, and how it is run.

    Args:
        teacher, source, transform, batch_size, workers, device, progress: as of :func:`embed`.
    """

    teacher: Teacher
    source: ImageSource
    transform: Transform
    batch_size: int = 64
    workers: int = 0
    device: torch.device | str | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0:
            raise OptionError(f"expected batch_size >= 1 and workers >= 0, found {self.batch_size}, {self.workers}")


Look = EmbedJob  # deprecated: its earlier name


def embed(
    teacher: Teacher,
    source: ImageSource,
    path: str | Path,
    *,
    transform: Transform,
    batch_size: int = 64,
    workers: int = 0,
    dtype: str = "float32",
    views: int = 1,
    shard_size: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
    rank: int | None = None,
    world: int | None = None,
    patience: float = 3600.0,
) -> EmbeddingStore:
    """Features of every sample of a source, written shard by shard; whatever is finished already is kept.

    A complete store that fits is opened without asking the teacher; an unfinished one is continued, after a SIGKILL
    too, and computes only the shards that are absent or damaged. Under ``torchrun``, or with ``rank`` and ``world``,
    each process computes every ``world``-th shard of the same folder, and the last ones done find a finished store.

    Args:
        teacher: whose embedding and logits are kept per sample, and whose proxies and proxy logits once.
        source: images with ids.
        path: folder of the store; made if it is absent.
        transform: image -> tensor in [0, 1], all of one size.
        batch_size: images per forward pass.
        workers: processes that decode; 0 decodes in this one.
        dtype: on disk, of embedding and logits: float32, float16, bfloat16, or int8 with a scale and offset per row.
        views: of each image; more than one needs a random transform whose draws can be kept.
        shard_size: samples per file; default a 32nd of all, at least 4096, and no more than the list of their ids has
            room for (about 450,000 of 60 characters each); a store begun earlier keeps its own.
        device: where to move teacher and images; ``None`` leaves them.
        progress: show a bar with rate and time left, if tqdm is installed.
        rank, world: this process and how many there are; default torchrun's RANK and WORLD_SIZE, else 0 of 1. They may
            differ from those of an interrupted run.
        patience: seconds without a new shard after which a rank that is done gives up the others.

    Returns: the store, in the source's order.
    Raises: StoreError if the folder belongs to another teacher, prompts, data or transform (each difference named),
        other ranks leave shards undone, or a feature is not finite (samples named); LockedError while another process
        writes this share; FileError if the folder cannot be written; DataError for unusable samples.
    Example: ``store = embed(teacher, source, "store", transform=transform, workers=2)``
    """
    job = EmbedJob(teacher, source, transform, batch_size, workers, device, progress)
    folder, share = local_path(path), _share(rank, world)
    made = Manifest.read(folder) if (folder / MANIFEST).is_file() else None
    plan = plan_store(job, dtype, views, made.shard_size if made else shard_size)
    if made is None or not _complete(folder, made, plan):
        with one_store_writer(folder, share):
            writer = StoreWriter(folder, plan, share)
            fill(writer, job)
            writer.finish(patience)
    return EmbeddingStore(folder).for_source(source)


def plan_store(job: EmbedJob, dtype: str, views: int = 1, shard_size: int | None = None) -> Manifest:
    """What a store of these images would be made of. Raises: DataError, OptionError, UnknownNameError."""
    check_dtype(dtype)
    teacher, transform, ids = job.teacher, job.transform, list(job.source.ids)
    kept = isinstance(transform, RandomTransform)
    if views < 1 or (views > 1 and not kept) or (shard_size is not None and shard_size < 1):
        raise OptionError(
            f"expected shard_size >= 1 and views >= 1, with views > 1 a random transform that keeps its draws (such as "
            f"RandomResizedCropView), found {shard_size}, {views} and {transform.spec}"
        )
    if not ids:
        raise DataError("there is nothing to embed: the source has no samples")
    name, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise DataError(f"expected one id per sample, found {name!r} twice: features are stored by id")
    longest = max(map(row_bytes, ids, job.source.sizes))
    plan = Manifest(
        dtype=dtype,
        samples=len(ids),
        shard_size=shard_size or usual_shard(len(ids), longest),
        embedding_dim=teacher.embedding_dim,
        num_classes=teacher.num_classes,
        classes=None if teacher.classes is None else list(teacher.classes),
        data=data_fingerprint(job.source),
        order=order_fingerprint(ids),
        teacher=teacher.fingerprint(),
        transform=transform_fingerprint(transform),
        views=views,
        drawn=list(transform.names) if isinstance(transform, RandomTransform) else [],
        space=transform.space if isinstance(transform, RandomTransform) else "",
    )
    check_shards(plan, longest)
    return plan


def usual_shard(samples: int, longest: int) -> int:
    """Samples of a shard where nobody chose; ``longest`` as of :func:`~graphkd.data.store.format.largest_shard`."""
    return min(max(_LEAST, -(-samples // _FILES)), largest_shard(longest))


def fill(writer: StoreWriter, job: EmbedJob) -> int:
    """Compute and write this process's shards that are absent; returns the number of samples that the teacher saw."""
    plan, teacher = writer.plan, job.teacher
    images = max(1, job.batch_size // plan.views)  # of which the teacher sees all views at once
    batches = {k: _batches(plan.span(k), images) for k in writer.todo()}
    asked = sum(len(batch) for each in batches.values() for batch in each)
    if not batches and not writer.needs_shared():
        return 0
    if job.device is not None:
        teacher.to(job.device)
    samples = Samples(job.source, job.transform, plan.views)
    order = [batch for each in batches.values() for batch in each]
    stream = iter(samples.loader(order or [[0]], job.workers))
    if not order:  # only what all samples share is absent
        writer.share(teacher(_moved(next(stream).images, job.device)))
        return 1
    mine = sum(len(plan.span(k)) for k in range(writer.mine.rank, plan.count, writer.mine.world))
    with _bar(mine, mine - asked, job.progress) as bar:
        for number, parts in batches.items():
            rows, content = [], []
            for batch in parts:
                seen = next(stream)
                features = teacher(_moved(seen.images, job.device))
                writer.share(features)
                found = writer.rows(features, [job.source.ids[i] for i in batch])
                rows.append(found | ({"drawn": seen.drawn} if plan.drawn else {}))
                content += seen.content
                if bar is not None:
                    bar.update(len(batch))
            writer.shard(number, rows, job.source, content)
    return asked


def _batches(span: range, size: int) -> list[list[int]]:
    return [list(span[i : i + size]) for i in range(0, len(span), size)]


def _moved(images: Tensor, device: torch.device | str | None) -> Tensor:
    return images if device is None else images.to(device, non_blocking=True)


def _share(rank: int | None, world: int | None) -> Share:
    """This process's part, from the arguments or from torchrun's environment."""
    if (rank is None) != (world is None):
        raise OptionError(f"expected both rank and world or neither, found {rank} and {world}")
    if rank is None or world is None:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not 0 <= rank < world:
        raise OptionError(f"expected 0 <= rank < world, found rank {rank} and world {world}")
    return Share(rank, world)


def _complete(folder: Path, made: Manifest, plan: Manifest) -> bool:
    """Whether the folder holds all of this store already."""
    require_same(folder, made, plan)
    return made.shards is not None and not missing_files(folder, made)


def _bar(total: int, done: int, show: bool) -> AbstractContextManager[Any]:
    """A bar with rate and time left, or ``None`` without tqdm."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return nullcontext()
    bar: AbstractContextManager[Any] = tqdm(total=total, initial=done, unit="image", desc="embedding", disable=not show)
    return bar
