"""What tests of kernels share: awkward inputs, a float64 oracle with gradients, an error metric, poison and guards."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from graphkd_kernels.tuning import measure
from graphkd_kernels.tuning.measure import GUARD as GUARD
from graphkd_kernels.tuning.measure import error as error
from graphkd_kernels.tuning.measure import poisoned as poisoned
from torch import Tensor

Function = Callable[..., Any]


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    """Normally distributed, the same on every device and, up to rounding, in every dtype."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).to(device)


def pair(*shape: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Two of them, with nothing in common."""
    return [rows(*shape, seed=seed, dtype=dtype) for seed in (0, 1)]


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


def with_close_rows(x: Tensor, gap: float = 1e-3) -> Tensor:
    """Every second row near the one before it."""
    x = x.clone()
    x[..., 1::2, :] = near(x, gap)[..., : x.shape[-2] // 2 * 2 : 2, :]
    return x


def derive(function: Function, inputs: Sequence[Any], needs: Sequence[bool], seed: int = 7) -> list[Tensor]:
    """Value and gradients of a function, under a random upstream gradient. Inputs that are not tensors pass through."""
    upstream: Function = lambda value: rows(*value.shape, seed=seed, dtype=torch.float64).add(2).to(value)  # noqa: E731
    return measure.derive(function, inputs, needs, upstream)


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


def check(
    function: Function,
    oracle: Function,
    inputs: Sequence[Any],
    needs: Sequence[bool],
    device: torch.device,
    tolerance: float,
    beside_oracle: bool = False,
) -> None:
    """Errors below the tolerance, of poisoned kernels; or below twice those of the oracle in the inputs' own precision."""
    inputs = [each.to(device) if isinstance(each, Tensor) else each for each in inputs]
    with poisoned():
        found = errors(function, oracle, inputs, needs)
    limits = errors(oracle, oracle, inputs, needs) if beside_oracle else [0.0] * len(found)
    assert all(one <= max(tolerance, 2 * limit) for one, limit in zip(found, limits, strict=True)), (found, limits)


def second(function: Function, inputs: Sequence[Tensor], seed: int = 3) -> tuple[Tensor, ...]:
    """Gradients of a random combination of the gradients of a function's squared value."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    gradients = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
    mixed = torch.stack([(g * rows(*g.shape, seed=seed, dtype=g.dtype).to(g)).sum() for g in gradients]).sum()
    return torch.autograd.grad(mixed, leaves)
