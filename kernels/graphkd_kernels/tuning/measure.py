"""What verification shares with tests: results of a call with its gradients, errors of them, and poisoned outputs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]
GUARD = 256
"""Bytes on either side of an output that no kernel may touch."""
_MARK = 0x5A


def error(found: Tensor, expected: Tensor, floor: float = 1e-30) -> float:
    """|found - expected| / |expected| in float64; infinite where either is not finite, or the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.detach().double(), expected.detach().double().to(found.device)
    if not (found.isfinite().all() and expected.isfinite().all()):
        return float("inf")
    difference, size = (each.square().sum().sqrt() for each in (found - expected, expected))
    return float(difference / (size + floor)) if difference > floor else 0.0


def derive(
    function: Function, inputs: Sequence[Any], needs: Sequence[bool], upstream: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Value and gradients of a function, for the upstream gradient of a value. Inputs of other kinds pass through."""
    leaves = [
        each.detach().requires_grad_(need) if isinstance(each, Tensor) and each.is_floating_point() else each
        for each, need in zip(inputs, needs, strict=True)
    ]
    value = function(*leaves)
    if not any(needs):
        return [value.detach()]
    wanted = [leaf for leaf, need in zip(leaves, needs, strict=True) if need]
    return [value.detach(), *torch.autograd.grad(value, wanted, upstream(value))]


def exact(inputs: Sequence[Any]) -> list[Any]:
    """The same inputs in float64."""
    return [
        each.detach().double() if isinstance(each, Tensor) and each.is_floating_point() else each for each in inputs
    ]


@contextmanager
def poisoned() -> Iterator[list[Tensor]]:
    """Kernels' outputs start as NaN between guard bands; on leaving, the guards must be whole.

    An element that a kernel forgot is NaN and shows in the result; a write outside shows here.

    Raises: AssertionError.
    """
    from graphkd_kernels._triton.launch import allocating  # the only part that needs triton

    buffers: list[Tensor] = []

    def allocate(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        size = torch.Size(shape).numel() * dtype.itemsize
        buffer = torch.full((size + 2 * GUARD,), _MARK, dtype=torch.uint8, device=device)
        buffers.append(buffer)
        inner = buffer[GUARD : GUARD + size].view(dtype).view(shape)
        return inner.fill_(float("nan") if dtype.is_floating_point else -1)

    with allocating(allocate):
        yield buffers
    for buffer in buffers:
        ends = torch.cat([buffer[:GUARD], buffer[len(buffer) - GUARD :]])
        if not bool((ends == _MARK).all()):
            raise AssertionError(f"a kernel wrote outside its output of {len(buffer) - 2 * GUARD} bytes")
