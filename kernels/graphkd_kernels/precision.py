"""The type that fused operations compute in: float32 for 16-bit inputs, the inputs' own for others; autocast is off."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch
from torch import Tensor

PRECISIONS = ("high", "exact")
_PRECISION: ContextVar[str] = ContextVar("graphkd_precision", default="high")
_HALF = (torch.bfloat16, torch.float16)


def widen(value: Any) -> Any:
    """A 16-bit tensor in float32, anything else as it is. The gradient of a cast comes back in the input's type."""
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value


def no_autocast(device: torch.device) -> torch.autocast | None:
    """A context in which products keep the type of their factors, or ``None`` where that is so already."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else None


def widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function of tensors in float32 at least, whatever autocast says."""

    @wraps(function)
    def run(first: Tensor, *others: Any) -> Any:
        arguments = (widen(first), *(widen(each) for each in others))
        guard = no_autocast(first.device)
        if guard is None:
            return function(*arguments)
        with guard:
            return function(*arguments)

    return run


@contextmanager
def precision(name: str) -> Iterator[None]:
    """How kernels on a GPU form products inside the ``with`` block; other backends are exact always.

    Args:
        name: ``"high"``, the default: bfloat16 tensor cores for 16-bit inputs, whose sums and differences are rounded once,
            and three-term tf32 for float32. ``"exact"``: float32 multiply-adds for both. float64 stays float64.

    Raises: ValueError for another name.
    """
    if name not in PRECISIONS:
        raise ValueError(f"unknown precision {name!r}; known: {', '.join(PRECISIONS)}")
    token = _PRECISION.set(name)
    try:
        yield
    finally:
        _PRECISION.reset(token)


def asked_precision() -> str:
    """The precision in force."""
    return _PRECISION.get()


def in_float64(function: Callable[..., Any], operation: str, first: Tensor, *others: Any) -> Any:
    """Run an operation on float64 copies; what it returns comes back in the type it would have had."""

    def exact(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    def back(value: Any) -> Any:
        return value.to(widen(first).dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    found = function(operation, exact(first), *(exact(each) for each in others))
    return tuple(back(each) for each in found) if isinstance(found, tuple) else back(found)
