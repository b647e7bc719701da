"""Batches larger than memory: features chunk by chunk, each chunk run again when its gradient is due."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from graphkd import distributed
from graphkd.distillers.base import Distiller, same_update
from graphkd.errors import MissingFeatureError, ShapeError
from graphkd.features import Features
from graphkd.losses import Losses
from graphkd.registry import warn_renamed
from graphkd.typing import Float, Tensor


@dataclass(frozen=True)
class ChunkedForward:
    """What is known of a batch after the forward pass of all its chunks.

    Args:
        features: of all samples, a gradient's way back to the chunks included.
        first: of the first chunk, as they left the student.
        losses: terms of the distillers that look at one image at a time, by distiller.
    """

    features: Features
    first: Features
    losses: Mapping[Distiller, Losses]


def forward_in_chunks(
    student: nn.Module,
    distillers: Sequence[Distiller],
    images: Float[Tensor, "b 3 h w"],
    teacher: Features | None,
    beside: Mapping[str, Any],
    chunk: int,
) -> ChunkedForward:
    r"""Features of a batch whose activations would not fit, exact for relations over the whole of it.

    .. math:: \frac{dL}{d\theta} = \sum_k \frac{\partial L}{\partial f_k} \frac{\partial f_k}{\partial \theta},
              \qquad f_k = S_\theta(x_k)

    Features :math:`f_k` of all chunks are computed first and keep no activations; the loss on them gives
    :math:`\partial L / \partial f_k`; in the backward pass each chunk runs a second time, with the random numbers of
    the first, and its activations are gone before the next chunk's begin. It is torch's activation checkpointing with
    one segment a chunk, so that one ``backward()`` is all there is: for DDP, loss scaling and plain loops alike.

    A distiller that is ``per_image`` sees its chunk's maps in there, and they are dropped with the chunk. Buffers
    (BatchNorm's statistics) stay as they are in the first pass and move in the second.

    Paper: Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
    RepL4NLP 2021, section 3.2.

    Args:
        beside: ``target``, ``index`` and ``boxes``, one row a sample.
        chunk: most samples of a chunk; chunks are nearly equal, and every rank makes as many.

    Raises: ShapeError for a rank with fewer samples than chunks.
    """
    alone = [each for each in distillers if each.global_batch == "per_image"]
    keeps_maps = any(each.relates_maps for each in distillers if each not in alone)

    def one(part: Tensor, span: slice, first: bool) -> tuple[Features, list[Losses]]:
        features: Features = student(part)
        given = {name: None if value is None else value[span] for name, value in beside.items()}
        with same_update(*alone):
            losses = [each(features, needed(teacher, each).rows(span), **given) for each in alone]
        if not keeps_maps:
            features = replace(features, maps=None, tokens=None)
        if not first:  # all chunks have the same ones
            features = replace(features, proxies=None, proxy_logits=None)
        return features, losses

    for each in alone:
        each.begin()
    pieces = _pieces(len(images), chunk, images.device)
    still = preserve_buffers(student, *alone) if torch.is_grad_enabled() else nullcontext()
    with still, set_checkpoint_early_stop(False):  # to the end: the last layer's buffers move too
        run = [
            checkpoint(one, images[span], span, span.start == 0, use_reentrant=False, preserve_rng_state=True)
            for span, _ in pieces
        ]
    shares = [share for _, share in pieces]
    by_chunk = zip(*(losses for _, losses in run), strict=True)
    sums = {each: _mean(losses, shares) for each, losses in zip(alone, by_chunk, strict=True)}
    return ChunkedForward(Features.joined([features for features, _ in run]), run[0][0], sums)


def in_chunks(rows: int, chunk: int | None) -> list[slice]:
    """``rows`` samples as nearly equal slices of at most ``chunk``; one slice for ``None``."""
    count = 1 if chunk is None else -(-rows // chunk)
    return _slices(rows, count)


@contextmanager
def preserve_buffers(*modules: nn.Module) -> Iterator[None]:
    """Restore every buffer of these modules at the end."""
    held = [
        (owner, name, buffer, buffer.clone())
        for module in modules
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for owner, name, buffer, before in held:
                owner._buffers[name] = buffer
                buffer.data.copy_(before)  # unseen by autograd: a backward pass to come may hold this very value


_RENAMED = {"look": "forward_in_chunks", "Seen": "ChunkedForward", "unmoved": "preserve_buffers"}


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_renamed(f"chunks.{name}", _RENAMED[name])
    return globals()[_RENAMED[name]]


def _pieces(rows: int, chunk: int, device: torch.device) -> list[tuple[slice, float]]:
    """This rank's chunks, and each chunk's share of the samples of all ranks."""
    sizes = distributed.sizes(rows, device)
    count = -(-max(sizes) // chunk)
    if min(sizes) < count:
        raise ShapeError(
            f"the ranks hold {sizes} samples, and chunks of {chunk} are {count} on each: give every rank as many"
        )
    ranks = [_slices(size, count) for size in sizes]
    shares = [sum(span.stop - span.start for span in spans) / sum(sizes) for spans in zip(*ranks, strict=True)]
    return list(zip(ranks[distributed.rank()], shares, strict=True))


def _slices(rows: int, count: int) -> list[slice]:
    ends = [rows * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def needed(teacher: Features | None, reader: Distiller) -> Features:
    """The teacher's features. Raises: MissingFeatureError where there are none."""
    if teacher is None:
        raise MissingFeatureError(f"{type(reader).__name__} needs the teacher's features: give them to step")
    return teacher


def _mean(losses: Sequence[Losses], shares: Sequence[float]) -> Losses:
    """Means over images of the whole batch from those of its chunks."""
    pairs = list(zip(losses, shares, strict=True))
    return Losses({name: torch.stack([share * each[name] for each, share in pairs]).sum() for name in losses[0]})
