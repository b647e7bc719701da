"""Batches of graphs, taken as many together as the cache holds."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from graphkd_kernels.autograd import Maybe, Needs

Nodes = Sequence[Maybe]
"""Students' sources and targets, teachers' sources and targets; targets ``None`` are the sources."""
Found = tuple[Tensor, tuple[Maybe, ...]]

_ENTRIES = 2**19  # 2 MiB in float32


def in_groups(compute: Callable[[Nodes, Needs], Found], needs: Needs, tensors: Nodes, width: int) -> Found:
    """Sum of the values, and the gradients, of a batch of graphs.

    Args:
        compute: value and gradients of graphs (b, n, d).
        needs: which gradients are wanted.
        tensors: of equal batch dimensions.
        width: entries of a graph's intermediate results for each row.
    """
    first = tensors[0]
    assert first is not None
    rows = max(each.shape[-2] for each in tensors if each is not None)
    batch, most = prod(first.shape[:-2]), max(1, _ENTRIES // max(1, rows * width))
    flat = [None if each is None else each.reshape(-1, *each.shape[-2:]) for each in tensors]
    parts = [
        compute([None if each is None else each[start : start + most] for each in flat], needs)
        for start in range(0, batch, most)
    ]
    if len(parts) == 1:
        value, found = parts[0]
    else:
        value = torch.stack([each.double() for each, _ in parts]).sum()
        found = tuple(_cat(each) for each in zip(*(grads for _, grads in parts), strict=True))
    return value.to(first.dtype), tuple(
        None if g is None or x is None else g.reshape(x.shape) for g, x in zip(found, tensors, strict=True)
    )


def _cat(parts: Sequence[Maybe]) -> Maybe:
    found = [each for each in parts if each is not None]
    return torch.cat(found) if found else None
