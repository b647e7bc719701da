"""All images as one tensor on their device, shifted and flipped a whole batch at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from graphkd import Batch
from graphkd.data.seeds import EpochBatches, derived_generator
from graphkd.data.sources import ImageSource
from graphkd.errors import DataError


class TensorViews:
    r"""What :class:`graphkd.Views` is with ``RandomCropView``, for small images of one size, without a call per image.

    Every draw of an epoch is made at once, from (seed, epoch) alone, and each image has its own: neither the order
    nor the place where a run was resumed changes a view.

    Args:
        source: images of one size.
        padding: black pixels on each side before a random crop of the same size; 0 for the plain image, unflipped.
        flip: flip augmented images left-right with probability 1/2; off where left and right carry meaning.
        seed: of the order and of the augmentation.
        labels: hand out targets.
        device: where the pixels lie and views are made.

    Shapes: Batch.student (b, 3, h, w), channels last in memory.
    Raises: DataError for images of several sizes, or without labels where they are asked for.
    Example: ``Trainer(step, TensorViews(source, padding=4), teacher, config, "runs/one")``
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        padding: int = 0,
        flip: bool = True,
        seed: int = 0,
        labels: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.padding, self.flip, self.seed = padding, flip, seed
        self.device = torch.device(device)
        images = [_pixels(source, index) for index in range(len(source))]
        if len({each.shape for each in images}) != 1:
            raise DataError("expected images of one size: resize them first, or use graphkd.Views")
        self.pixels = torch.nn.functional.pad(torch.stack(images), [0, 0, *[padding] * 4]).to(self.device)
        self.targets = _targets(source).to(self.device) if labels else None

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, epoch: int, index: Tensor) -> Batch:
        """Those images as epoch ``epoch`` sees them."""
        at = index.to(self.device)
        if self.padding:
            rows, columns = (each.to(self.device) for each in self._draw(epoch, index))
            found = self.pixels[at[:, None, None], rows[:, :, None], columns[:, None, :]]
        else:
            found = self.pixels[at]
        images = found.permute(0, 3, 1, 2).float() / 255
        return Batch(images, images, index, None if self.targets is None else self.targets[at])

    def _draw(self, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns that each image keeps of its padded form, the columns backwards where it is flipped."""
        drawn = torch.rand(len(self), 3, generator=derived_generator(self.seed, epoch, "views"))[index]
        corner = (drawn[:, :2] * (2 * self.padding + 1)).long()
        size = torch.arange(self.pixels.shape[1] - 2 * self.padding)
        width = torch.arange(self.pixels.shape[2] - 2 * self.padding)
        columns = torch.where((drawn[:, 2:] < 0.5) & self.flip, width.flip(0), width)
        return corner[:, :1] + size, corner[:, 1:] + columns

    def loader(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool = True,
        rank: int = 0,
        world: int = 1,
        **_: object,
    ) -> "TensorLoader":
        """As of ``graphkd.Views``; workers and pinned memory have no use here."""
        return TensorLoader(self, EpochBatches(len(self), batch_size, self.seed, shuffle, drop_last, rank, world))


class TensorLoader:
    """Batches of one epoch, ``batch_sampler.set_epoch(epoch, start)`` chooses which."""

    def __init__(self, views: TensorViews, batches: EpochBatches) -> None:
        self.views, self.batch_sampler = views, batches

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.batch_sampler:
            yield self.views.batch(keys[0][0], torch.tensor([index for _, index in keys]))


def _pixels(source: ImageSource, index: int) -> Tensor:
    from torchvision.transforms.functional import pil_to_tensor

    pixels: Tensor = pil_to_tensor(source.image(index).convert("RGB"))
    return pixels.permute(1, 2, 0)


def _targets(source: ImageSource) -> Tensor:
    found = [source.target(index) for index in range(len(source))]
    if None in found:
        raise DataError("some images have no label: pass labels=False, or use a labelled data set")
    return torch.tensor(found)
