"""Views of images some of which cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graphkd.data.seeds import Key
from graphkd.data.views import Batch, ViewPair, Views
from graphkd.errors import DataError


@dataclass(frozen=True)
class Unread:
    """An image that cannot be read: its position, and why."""

    index: int
    error: str


class Portion(NamedTuple):
    """A batch of the images that can be read, if there are any, and those that cannot."""

    batch: Batch | None
    unread: list[Unread]


class TolerantViews(Views):
    """Views of images some of which cannot be read: its loader yields a :class:`Portion` in place of a batch."""

    def __getitem__(self, key: int | Key) -> ViewPair | Unread:  # type: ignore[override]
        try:
            return super().__getitem__(key)
        except DataError as error:
            what = str(error).rpartition(": ")[0]  # without the remedy
            return Unread(key[1] if isinstance(key, tuple) else key, what)

    @staticmethod
    def collate(pairs: Sequence[ViewPair | Unread]) -> Portion:  # type: ignore[override]
        read = [pair for pair in pairs if isinstance(pair, ViewPair)]
        unread = [pair for pair in pairs if isinstance(pair, Unread)]
        return Portion(Views.collate(read) if read else None, unread)
