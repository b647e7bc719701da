"""What tests of kernels share: awkward inputs, a float64 oracle with gradients, an error metric, poison and guards."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

GUARD = 256
"""Bytes on either side of an output that no kernel may touch."""
_MARK = 0x5A

Function = Callable[..., Any]


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    """Normally distributed, the same on every device and, up to rounding, in every dtype."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).to(device)


def near(x: Tensor, noise: float = 1e-3, seed: int = 1) -> Tensor:
    """x plus noise: where losses of differences lose their digits."""
    return x + noise * rows(*x.shape, seed=seed, dtype=x.dtype, device=str(x.device))


def strided(x: Tensor) -> Tensor:
    """The same values, every row apart from the next and out of alignment."""
    wide = x.new_full((*x.shape[:-1], x.shape[-1] + 3), float("nan"))
    wide[..., 1:-2] = x
    return wide[..., 1:-2]


def transposed(x: Tensor) -> Tensor:
    """The same values, column-major."""
    return x.mT.contiguous().mT


def expanded(x: Tensor) -> Tensor:
    """The first row everywhere, of stride 0."""
    return x[..., :1, :].expand_as(x)


def with_dead_row(x: Tensor) -> Tensor:
    """Row 0 constant."""
    x = x.clone()
    x[..., 0, :] = 0.1
    return x


def with_zero_row(x: Tensor) -> Tensor:
    """Row 0 zero."""
    x = x.clone()
    x[..., 0, :] = 0
    return x


def with_duplicates(x: Tensor) -> Tensor:
    """The last row equal to the first."""
    x = x.clone()
    x[..., -1, :] = x[..., 0, :]
    return x


def error(found: Tensor, expected: Tensor, floor: float = 1e-30) -> float:
    """|found - expected| / |expected| in float64; infinite where either is not finite, or the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    if not (found.isfinite().all() and expected.isfinite().all()):
        return float("inf")
    difference, size = (each.square().sum().sqrt() for each in (found - expected, expected))
    return float(difference / (size + floor)) if difference > floor else 0.0


def derive(function: Function, inputs: Sequence[Any], needs: Sequence[bool], seed: int = 7) -> list[Tensor]:
    """Value and gradients of a function, under a random upstream gradient. Inputs that are not tensors pass through."""
    leaves = [
        each.detach().requires_grad_(need) if isinstance(each, Tensor) and each.is_floating_point() else each
        for each, need in zip(inputs, needs, strict=True)
    ]
    value = function(*leaves)
    if not any(needs):
        return [value.detach()]
    upstream = rows(*value.shape, seed=seed, dtype=torch.float64).add(2).to(value)
    wanted = [leaf for leaf, need in zip(leaves, needs, strict=True) if need]
    return [value.detach(), *torch.autograd.grad(value, wanted, upstream)]


def exact(inputs: Sequence[Any]) -> list[Any]:
    """The same inputs for the oracle: in float64, on the CPU."""
    return [
        each.detach().double().cpu() if isinstance(each, Tensor) and each.is_floating_point() else each
        for each in inputs
    ]


def errors(
    function: Function, oracle: Function, inputs: Sequence[Any], needs: Sequence[bool], seed: int = 7
) -> list[float]:
    """Relative errors of the value and of each gradient that is needed, against the oracle in float64."""
    found, expected = derive(function, inputs, needs, seed), derive(oracle, exact(inputs), needs, seed)
    return [error(one, other) for one, other in zip(found, expected, strict=True)]


def second(function: Function, inputs: Sequence[Tensor], seed: int = 3) -> tuple[Tensor, ...]:
    """Gradients of a random combination of the gradients of a function's squared value."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    gradients = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
    mixed = torch.stack([(g * rows(*g.shape, seed=seed, dtype=g.dtype).to(g)).sum() for g in gradients]).sum()
    return torch.autograd.grad(mixed, leaves)


@contextmanager
def poisoned() -> Iterator[list[Tensor]]:
    """Kernels' outputs start as NaN between guard bands; on leaving, the guards must be whole.

    An element that a kernel forgot is NaN and shows in the result; a write outside shows here.
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
        assert bool((ends == _MARK).all()), f"a kernel wrote outside its output of {len(buffer) - 2 * GUARD} bytes"
