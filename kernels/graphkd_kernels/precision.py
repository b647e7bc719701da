"""The type that fused operations compute in: float32 for 16-bit inputs, the inputs' own for others; autocast is off."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

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


def in_float64(function: Callable[..., Any], operation: str, first: Tensor, *others: Any) -> Any:
    """Run an operation on float64 copies; what it returns comes back in the type it would have had."""

    def exact(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    def back(value: Any) -> Any:
        return value.to(widen(first).dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    found = function(operation, exact(first), *(exact(each) for each in others))
    return tuple(back(each) for each in found) if isinstance(found, tuple) else back(found)
