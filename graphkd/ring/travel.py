"""Blocks of rows that travel from rank to rank; while one is worked on, the next arrives."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from graphkd import distributed
from graphkd.distributed.collectives import current
from graphkd.typing import Float, Tensor

Rows = tuple[Tensor, ...]
_BLOCKS, _GRADIENTS = 0, 1  # tags: both are under way at a time


def passing(rows: Rows, sizes: tuple[int, ...]) -> Iterator[tuple[Rows, int]]:
    """This rank's rows, then those of the rank before it, and so on; and the place of a block's first row among all.

    Args:
        rows: tensors of one type, with one row for each node of this rank; the widths may differ.
        sizes: nodes of each rank.
    """
    world, rank = len(sizes), distributed.rank()
    held = rows
    block = _packed(rows, max(sizes)) if world > 1 else rows[0]
    free = torch.empty_like(block) if world > 1 else rows[0]
    for step in range(world - 1):
        owner = (rank - step) % world
        under_way = _pass_on(block, free, _BLOCKS)
        yield held, sum(sizes[:owner])
        _finish(under_way)
        block, free = free, block
        held = _views(block, rows, max(sizes), sizes[owner - 1])
    yield held, sum(sizes[: (rank + 1) % world])


class Homeward:
    """Sums of the blocks' gradients, each of which follows its block and ends at the rank that the block came from.

    Args:
        rows: tensors of this rank whose gradients are wanted.
        sizes: nodes of each rank.
    """

    def __init__(self, rows: Sequence[Tensor], sizes: tuple[int, ...]) -> None:
        self._rows, self._sizes = rows, sizes
        self._home: list[Tensor] = []
        self._sent: Tensor | None = None
        self._coming: Tensor | None = None
        self._under_way: list[Any] = []

    def add(self, gradients: Sequence[Tensor]) -> None:
        """This rank's share for the block at hand, in the order of :func:`passing`: its own block first."""
        if not self._rows:
            return
        if not self._home:
            self._home = list(gradients)
            return
        share = _packed(gradients, max(self._sizes))
        if self._coming is not None:
            share += self._received()
        self._sent, self._coming = share, torch.empty_like(share)
        self._under_way = _pass_on(self._sent, self._coming, _GRADIENTS)

    def arrived(self) -> list[Tensor]:
        """The gradients of this rank's rows, once all blocks have been here."""
        if self._coming is None:
            return self._home
        own = self._sizes[distributed.rank()]
        rest = _views(self._received(), self._rows, max(self._sizes), own)
        return [here + there for here, there in zip(self._home, rest, strict=True)]

    def _received(self) -> Tensor:
        assert self._coming is not None
        _finish(self._under_way)
        return self._coming


def _pass_on(block: Tensor, free: Tensor, tag: int) -> list[Any]:
    """Start to send a block to the next rank, and to receive that of the rank before."""
    world, rank = distributed.world_size(), distributed.rank()
    counter = current()
    if counter is not None:
        counter.add("ring", block)
    send = dist.P2POp(dist.isend, block, (rank + 1) % world, tag=tag)
    receive = dist.P2POp(dist.irecv, free, (rank - 1) % world, tag=tag)
    under_way: list[Any] = dist.batch_isend_irecv([send, receive])
    return under_way


def _finish(under_way: Sequence[Any]) -> None:
    for each in under_way:
        each.wait()


def _packed(rows: Sequence[Tensor], most: int) -> Float[Tensor, " k"]:
    """All tensors in one buffer, which is as long on every rank."""
    buffer = rows[0].new_zeros(sum(_lengths(rows, most)))
    for place, x in zip(_views(buffer, rows, most, len(rows[0])), rows, strict=True):
        place.copy_(x)
    return buffer


def _views(buffer: Tensor, like: Sequence[Tensor], most: int, rows: int) -> Rows:
    """The tensors of a buffer."""
    parts = torch.split(buffer, _lengths(like, most))
    return tuple(part.view(most, *x.shape[1:])[:rows] for part, x in zip(parts, like, strict=True))


def _lengths(like: Sequence[Tensor], most: int) -> list[int]:
    return [most * x.shape[1:].numel() for x in like]
