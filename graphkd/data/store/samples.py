"""Every view of every image of a source, for a teacher to look at: the same in any process, after any break."""

from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from graphkd.data.seeds import derived_seed
from graphkd.data.source import ImageSource, RandomTransform, Transform
from graphkd.errors import DataError
from graphkd.typing import Float, Tensor


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
