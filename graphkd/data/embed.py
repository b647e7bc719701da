"""Ask a teacher about every image once, and keep the answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from graphkd.data.fingerprint import data_fingerprint, digest, order_fingerprint, transform_fingerprint
from graphkd.data.source import ImageSource, Transform
from graphkd.data.store import EmbeddingStore
from graphkd.data.store_format import MANIFEST, Manifest, check_dtype, missing_files
from graphkd.data.store_write import StoreWriter, require_same
from graphkd.errors import DataError, OptionError
from graphkd.teachers.base import Teacher
from graphkd.typing import Float, Tensor

Sample = tuple[int, Tensor, str]


def embed(
    teacher: Teacher,
    source: ImageSource,
    path: str | Path,
    *,
    transform: Transform,
    batch_size: int = 64,
    workers: int = 0,
    dtype: str = "float32",
    shard_size: int = 4096,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> EmbeddingStore:
    """Features of every sample of a source, written shard by shard; whatever is finished already is kept.

    A complete store that fits is opened without asking the teacher; an unfinished one is continued, after a SIGKILL
    too, and computes only the shards that are absent or damaged.

    Args:
        teacher: whose embedding and logits are kept per sample, and whose proxies and proxy logits once.
        source: images with ids.
        path: folder of the store; made if it is absent.
        transform: image -> tensor in [0, 1], all of one size.
        batch_size: images per forward pass.
        workers: processes that decode; 0 decodes in this one.
        dtype: on disk, of embedding and logits: float32, float16 or bfloat16.
        shard_size: samples per file; a store begun earlier keeps its own.
        device: where to move teacher and images; ``None`` leaves them.
        progress: show a bar with rate and time left, if tqdm is installed.

    Returns: the store, in the source's order.
    Raises: StoreError if the folder belongs to another teacher, prompts, data or transform (each difference named),
        cannot be written, or a feature is not finite (samples named); DataError for unusable samples.
    Example: ``store = embed(teacher, source, "store", transform=transform, workers=2)``
    """
    check_dtype(dtype)
    if batch_size < 1 or shard_size < 1 or workers < 0:
        raise OptionError(
            f"expected batch_size, shard_size >= 1 and workers >= 0, found {batch_size, shard_size, workers}"
        )
    folder, plan = Path(path), _plan(teacher, source, transform, dtype, shard_size)
    if not _complete(folder, plan):
        writer = StoreWriter(folder, plan)
        if device is not None:
            teacher.to(device)
        _fill(writer, teacher, source, transform, batch_size, workers, device, progress)
        writer.finish()
    return EmbeddingStore(folder).for_source(source)


class _Samples(Dataset[Sample]):
    """Position, view and content hash of each sample."""

    def __init__(self, source: ImageSource, transform: Transform) -> None:
        self.source, self.transform = source, transform

    def __getitem__(self, index: int) -> Sample:
        with torch.random.fork_rng(devices=[]):  # a random transform draws the same in any worker, after any break
            torch.default_generator.manual_seed(int(digest(self.source.ids[index])[:15], 16))
            view = self.transform(self.source.image(index))
        return index, view, self.source.content_hash(index)

    def collate(self, samples: list[Sample]) -> tuple[Float[Tensor, "b 3 h w"], list[str]]:
        """A batch of views and their content hashes."""
        first, view, _ = samples[0]
        for index, other, _ in samples:
            if other.shape != view.shape:
                raise DataError(
                    f"expected views of one size, found {tuple(view.shape)} of {self.source.ids[first]} and "
                    f"{tuple(other.shape)} of {self.source.ids[index]}: let the transform resize"
                )
        return torch.stack([view for _, view, _ in samples]), [content for _, _, content in samples]


def _plan(teacher: Teacher, source: ImageSource, transform: Transform, dtype: str, shard_size: int) -> Manifest:
    ids = list(source.ids)
    if not ids:
        raise DataError("there is nothing to embed: the source has no samples")
    if len(set(ids)) < len(ids):
        twice = next(name for position, name in enumerate(ids) if name in ids[:position])
        raise DataError(f"expected one id per sample, found {twice!r} twice: features are stored by id")
    return Manifest(
        dtype=dtype,
        samples=len(ids),
        shard_size=shard_size,
        embedding_dim=teacher.embedding_dim,
        num_classes=teacher.num_classes,
        classes=None if teacher.classes is None else list(teacher.classes),
        data=data_fingerprint(source),
        order=order_fingerprint(ids),
        teacher=teacher.fingerprint(),
        transform=transform_fingerprint(transform),
    )


def _complete(folder: Path, plan: Manifest) -> bool:
    """Whether the folder holds all of this store already."""
    if not (folder / MANIFEST).is_file():
        return False
    made = Manifest.read(folder)
    require_same(folder, made, plan)
    return made.shards is not None and not missing_files(folder, made)


def _fill(
    writer: StoreWriter,
    teacher: Teacher,
    source: ImageSource,
    transform: Transform,
    batch_size: int,
    workers: int,
    device: torch.device | str | None,
    progress: bool,
) -> None:
    """Compute and write every shard that is absent."""
    spans = {number: writer.plan.span(number) for number in writer.todo()}
    batches = {
        k: [list(span[i : i + batch_size]) for i in range(0, len(span), batch_size)] for k, span in spans.items()
    }
    samples = _Samples(source, transform)
    loader = DataLoader(
        samples,
        batch_sampler=[batch for each in batches.values() for batch in each],
        num_workers=workers,
        collate_fn=samples.collate,
        generator=torch.Generator(),  # the caller's random state stays as it is
    )
    stream = iter(loader)
    with _bar(writer.plan.samples, writer.plan.samples - sum(map(len, spans.values())), progress) as advance:
        for number, parts in batches.items():
            rows, content = [], []
            for batch in parts:
                images, hashes = next(stream)
                features = teacher(images if device is None else images.to(device, non_blocking=True))
                writer.share(features)
                rows.append(writer.rows(features, [source.ids[i] for i in batch]))
                content += hashes
                advance(len(batch))
            writer.shard(number, rows, source, content)


@contextmanager
def _bar(total: int, done: int, show: bool) -> Iterator[Callable[[int], object]]:
    """How to report progress: a bar with rate and time left, or nothing."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        show = False
    if not show:
        yield lambda _: None
        return
    with tqdm(total=total, initial=done, unit="image", desc="embedding") as bar:
        yield bar.update
