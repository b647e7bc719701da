"""Randomness as a pure function of the seed: derived seeds, and which samples make which batch of which epoch."""

from collections.abc import Iterator
from hashlib import blake2b

import torch
from torch.utils.data import Sampler

from graphkd.errors import DataError, OptionError

Key = tuple[int, int]


def derived_seed(*parts: int | str) -> int:
    """A 64-bit seed made of its parts, the same in every process and on every machine.

    Args:
        parts: what the seed is for, such as ``(seed, epoch, "photos/cat.png", "student")``.

    Example: ``derived_seed(0, 1) != derived_seed(0, 2)``
    """
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def derived_generator(*parts: int | str) -> torch.Generator:
    """A CPU generator that starts at ``derived_seed(*parts)``."""
    return torch.Generator().manual_seed(derived_seed(*parts))


class EpochBatches(Sampler[list[Key]]):
    """Batch sampler that yields lists of ``(epoch, index)`` and can start at any batch of any epoch.

    The order is ``randperm`` seeded by (seed, epoch), so neither workers nor earlier epochs change it. With several
    ranks every rank draws the same global batches and takes ``batch[rank::world]``: no sample twice, none left out.
    A loader with it needs no ``accelerate.prepare``, which would split a second time and, at the start of each pass,
    calls ``set_epoch`` with its own count; ``Batch.to`` moves a batch to its device.

    Args:
        length: samples of the data set.
        batch_size: samples of a global batch, summed over the ranks.
        seed: of the order.
        shuffle: a new order each epoch; else the data set's own.
        drop_last: leave out the last batch where it is not full.
        rank, world: this process and how many there are.

    Raises:
        DataError if no batch can be made.
        OptionError for sizes that make no sense, or where the last batch would leave a rank without a sample.

    Example::

        batches = EpochBatches(len(views), 256, seed=0)
        loader = DataLoader(views, batch_sampler=batches, collate_fn=views.collate)
        for epoch in range(epochs):
            batches.set_epoch(epoch)
            for batch in loader: ...
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= rank < world or batch_size < world:
            raise OptionError(
                f"expected 0 <= rank < world <= batch_size, found rank {rank}, world {world}, batch_size {batch_size}"
            )
        if length < (batch_size if drop_last else 1):
            raise DataError(
                f"{length} samples make no batch of {batch_size}: add images, lower the batch size"
                + (" or pass drop_last=False" if drop_last and length else "")
            )
        if not drop_last and 0 < length % batch_size < world:
            raise OptionError(
                f"the last global batch has {length % batch_size} samples for {world} ranks, so some rank would have "
                "none: change the batch size or drop the last batch"
            )
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.shuffle, self.drop_last, self.rank, self.world = shuffle, drop_last, rank, world
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """What the next iteration yields: ``epoch`` from batch ``start_batch`` on, to resume within an epoch."""
        if epoch < 0 or not 0 <= start_batch <= len(self):
            raise OptionError(
                f"expected an epoch >= 0 and a batch in 0..{len(self)}, found epoch {epoch}, batch {start_batch}"
            )
        self.epoch, self.start_batch = epoch, start_batch

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever this one starts: schedules count in it."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        order = torch.arange(self.length)
        if self.shuffle:
            order = torch.randperm(self.length, generator=derived_generator(self.seed, epoch, "order"))
        for step in range(self.start_batch, len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(epoch, index) for index in batch[self.rank :: self.world].tolist()]
