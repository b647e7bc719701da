"""What fused operations compute in: float32 for 16-bit inputs, the inputs' own type for others, whatever autocast and
the process's switch for float32 products say."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")
HALF = (torch.bfloat16, torch.float16)
_SWITCHES = {"cuda": torch.backends.cuda.matmul, "cpu": torch.backends.mkldnn.matmul}  # type: ignore[attr-defined]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of values: float32 for 16-bit inputs."""
    return torch.float32 if dtype in HALF else dtype


def widen(value: Any) -> Any:
    """A 16-bit tensor in float32, anything else as it is. The gradient of a cast comes back in the input's type."""
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value


def no_autocast(device: torch.device) -> torch.autocast | None:
    """A context in which products keep the type of their factors, or ``None`` where that is so already."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):  # meta tensors know no autocast
        return None
    return torch.autocast(device.type, enabled=False)


def rounds(device: str) -> bool:
    """Whether plain float32 products on this kind of device round their factors: ``set_float32_matmul_precision``."""
    return device in _SWITCHES and _SWITCHES[device].fp32_precision not in ("none", "ieee")


rounds._dynamo_marked_constant = True  # type: ignore[attr-defined]  # a compiled graph is guarded by the same switch


@contextmanager
def unrounded(device: str) -> Iterator[None]:
    """Products keep the type and the digits of their factors; afterwards the switch is as it was."""
    switch = _SWITCHES[device]
    own = switch.fp32_precision
    try:
        common = torch.get_float32_matmul_precision()
    except RuntimeError:  # the switch of one backend was thrown alone: the common one has no word for that
        common = ""
    if common:
        torch.set_float32_matmul_precision("highest")
    else:
        switch.fp32_precision = "ieee"
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        if common:
            torch.set_float32_matmul_precision(common)
        else:
            switch.fp32_precision = own


def full_precision(device: torch.device) -> AbstractContextManager[Any] | None:
    """A context in which products keep the type and the digits of their factors, or ``None`` where they do already.

    Compiled code cannot throw the switch; there ``autograd`` leaves products to operators, which can.
    """
    if rounds(device.type) and not torch.compiler.is_compiling():
        return unrounded(device.type)
    return no_autocast(device)


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
