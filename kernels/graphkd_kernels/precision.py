"""The type that fused operations compute in: float32 for 16-bit inputs, the inputs' own for others; autocast is off."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")
_HALF = (torch.bfloat16, torch.float16)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of values: float32 for 16-bit inputs."""
    return torch.float32 if dtype in _HALF else dtype


def widen(value: Any) -> Any:
    """A 16-bit tensor in float32, anything else as it is. The gradient of a cast comes back in the input's type."""
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value


def no_autocast(device: torch.device) -> torch.autocast | None:
    """A context in which products keep the type of their factors, or ``None`` where that is so already."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):  # meta tensors know no autocast
        return None
    return torch.autocast(device.type, enabled=False)


def widened(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function of tensors in float32 at least, whatever autocast says."""
    plain = cast(Callable[..., T], function)

    @wraps(function)
    def run(*arguments: Any) -> T:
        guard, arguments = no_autocast(arguments[0].device), tuple(widen(each) for each in arguments)
        if guard is None:
            return plain(*arguments)
        with guard:
            return plain(*arguments)

    return cast(Callable[P, T], run)


def in_float64(function: Callable[..., Any], operation: str, first: Tensor, *others: Any) -> Any:
    """Run an operation on float64 copies; what it returns comes back in the type it would have had."""

    def exact(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    def back(value: Any) -> Any:
        return value.to(wide(first.dtype)) if isinstance(value, Tensor) and value.is_floating_point() else value

    found = function(operation, exact(first), *(exact(each) for each in others))
    return tuple(back(each) for each in found) if isinstance(found, tuple) else back(found)
