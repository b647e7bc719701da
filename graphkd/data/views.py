"""Two views of every image of a source, as batches that depend on the seed and not on the workers."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.utils.data import DataLoader, Dataset

from graphkd.data.seeds import EpochBatches, Key, derived_seed
from graphkd.data.sources import ImageSource
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import RandomTransform, Transform
from graphkd.errors import DataError, OptionError
from graphkd.typing import Float, Int, Tensor


@dataclass(frozen=True)
class Batch:
    """Student's and teacher's images of the same samples, in [0, 1].

    Args:
        student: images for the student.
        teacher: images for the teacher; the same tensor object where the view is shared.
        index: position of each sample in its data set; a store is asked by it.
        target: labels, only where a run was asked to use or score them.
        view: which of a store's views each image is, where ``Views(replay=store)`` applies what the store drew.

    Shapes: student (b, 3, h, w), teacher (b, 3, h', w'), index (b,), target (b,), view (b,).
    """

    student: Float[Tensor, "b 3 h w"]
    teacher: Float[Tensor, "b 3 h2 w2"]
    index: Int[Tensor, " b"]
    target: Int[Tensor, " b"] | None = None
    view: Int[Tensor, " b"] | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device; index and view stay on the host, where a store reads them."""
        return self._each(lambda part: part.to(device, non_blocking=True), ("index", "view"))

    def rows(self, span: slice) -> "Batch":
        """Some samples; a shared view stays one tensor object."""
        return self._each(lambda part: part[span])

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; DataLoader calls it."""
        return self._each(Tensor.pin_memory, ("view",))

    def _each(self, change: Callable[[Tensor], Tensor], kept: Sequence[str] = ()) -> "Batch":
        """Each part changed but for those that are kept and absent ones; a shared view is changed once."""
        kept = [*kept, "teacher"] if self.teacher is self.student else kept
        parts = {name: change(part) for name, part in vars(self).items() if part is not None and name not in kept}
        return replace(self, **({"teacher": parts["student"]} if self.teacher is self.student else {}), **parts)

    def __len__(self) -> int:
        return len(self.index)


def ignore_group_signals(worker: int) -> None:
    """Keep serving when a terminal or scheduler signals the whole process group: the last update may need batches.

    The loader still ends its workers one by one, and a worker whose parent is gone ends by itself.

    Args:
        worker: number of the worker, as ``worker_init_fn`` is given.
    """
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)


@dataclass(frozen=True)
class ViewPair:
    """One sample; ``teacher`` is ``None`` where the view is shared, ``target`` and ``view`` where not asked for."""

    student: Float[Tensor, "3 h w"]
    teacher: Float[Tensor, "3 h2 w2"] | None
    index: int
    target: int | None
    view: int | None = None


class Views(Dataset[ViewPair]):
    r"""A student's and a teacher's view of each image.

    .. math:: \text{view} = t(\text{image};\ \text{random} = h(\text{seed}, \text{epoch}, \text{id}, \text{side}))

    Items are asked for by ``(epoch, index)``, so that workers that live on see the epoch; a plain index is epoch 0.

    Args:
        source: images with stable ids; labels are optional.
        student: transform of the student's view.
        teacher: transform of the teacher's view, drawn independently, or ``"shared"``: the student's own tensor.
        seed: of augmentation, and of the order in :meth:`loader`.
        labels: hand out targets. Off, ``source.target`` is never called and ``Batch.target`` is ``None``.
        replay: a store whose views were drawn at random: ``student`` shows the very crops that its teacher saw, a view
            an epoch in turn from one that depends on the sample, and ``Batch.view`` says which.

    Raises: DataError from an image that cannot be read (path named), or where labels are asked for and absent;
        StoreError, OptionError for a store of other samples, or whose draws ``student`` cannot apply.

    Example: ``Views(source, student=RandomCropView(32), teacher=CenterView(224)).loader(256)``
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        student: Transform,
        teacher: Transform | Literal["shared"] = "shared",
        seed: int = 0,
        labels: bool = False,
        replay: EmbeddingStore | None = None,
    ) -> None:
        self.source, self.seed, self.labels = source, seed, labels
        self.student, self.teacher, self.replay = student, teacher, replay
        if replay is not None:
            _check_replay(replay, source, student, teacher)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | Key) -> ViewPair:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, name = self.source.image(index), self.source.ids[index]
        target = self._target(index) if self.labels else None
        if self.replay is not None:
            assert isinstance(self.student, RandomTransform)  # checked at the door
            view = (epoch + derived_seed(self.seed, name, "view")) % self.replay.views
            drawn = self.replay.drawn(index, view)[0].tolist()
            return ViewPair(self.student.apply(image, drawn), None, index, target, view)
        with _global_generator_kept():
            torch.default_generator.manual_seed(derived_seed(self.seed, epoch, name, "student"))
            student, teacher = self.student(image), None
            if self.teacher != "shared":
                torch.default_generator.manual_seed(derived_seed(self.seed, epoch, name, "teacher"))
                teacher = self.teacher(image)
        return ViewPair(student, teacher, index, target)

    def _target(self, index: int) -> int:
        target = self.source.target(index)
        if target is None:
            raise DataError(f"{self.source.ids[index]} has no label: pass labels=False, or use a labelled data set")
        return target

    @staticmethod
    def collate(pairs: Sequence[ViewPair]) -> Batch:
        """Samples to a batch; a shared view stays one tensor object."""
        student = torch.stack([pair.student for pair in pairs])
        own = [pair.teacher for pair in pairs if pair.teacher is not None]
        targets = [pair.target for pair in pairs if pair.target is not None]
        views = [pair.view for pair in pairs if pair.view is not None]
        return Batch(
            student=student,
            teacher=torch.stack(own) if own else student,
            index=torch.tensor([pair.index for pair in pairs]),
            target=torch.tensor(targets) if targets else None,
            view=torch.tensor(views) if views else None,
        )

    def loader(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool = True,
        workers: int = 0,
        start_batch: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> "DataLoader[ViewPair]":
        """Batches of epoch 0; ``loader.batch_sampler.set_epoch(epoch, start_batch)`` chooses another.

        Args:
            batch_size: samples of a global batch, summed over the ranks.
            workers: processes that read; the batches are the same bits for any number.
            start_batch: first batch, to resume within the epoch.
        """
        batches = EpochBatches(len(self), batch_size, self.seed, shuffle, drop_last, rank, world)
        batches.set_epoch(0, start_batch)
        return DataLoader(
            self,
            batch_sampler=batches,
            collate_fn=self.collate,
            num_workers=workers,
            worker_init_fn=ignore_group_signals,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            # its own generator: each iter() draws one number, which must not move the global one that dropout uses
            generator=torch.Generator(),
        )


def _check_replay(
    store: EmbeddingStore, source: ImageSource, student: Transform, teacher: Transform | Literal["shared"]
) -> None:
    if teacher != "shared":
        raise OptionError("replay=store takes the teacher's features from the store: leave teacher='shared'")
    store.check(source=source)
    made = store.manifest
    found = (list(student.names), student.space) if isinstance(student, RandomTransform) else None
    if not made.drawn or found != (made.drawn, made.space):
        raise OptionError(
            f"{store.path} keeps {made.drawn or 'no draws'} ({made.space or made.transform}), which the student's "
            f"transform {student.spec} cannot apply: use the transform that the store was made with, at any size "
            "if it is a RandomResizedCropView"
        )


@contextmanager
def _global_generator_kept() -> Iterator[None]:
    """Put the state of torch's global CPU generator back, which a transform draws from inside.

    Measured: 4 µs against 156 µs of ``torch.random.fork_rng(devices=[])`` with ``torch.manual_seed``, which also
    looks after accelerators that no transform draws from.
    """
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)
