"""Rules made of kernel launches, and what tensors they take.

A rule with ``finish`` launches kernels in the backward pass too, where its gradient is cheaper once the upstream
gradient is known. Compiled, it is one operator like every other, and the gradients come with the value.
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from graphkd_kernels._triton import unfit
from graphkd_kernels._triton.launch import recorded
from graphkd_kernels._triton.replay import repeated
from graphkd_kernels.autograd import Found, Kept, Maybe, Rule, register
from graphkd_kernels.errors import BackendUnavailableError


def kernel_rule(
    name: str,
    gradients: Callable[..., Found],
    formula: Callable[..., Tensor],
    compiled: Literal["operator", "formula"] = "operator",
    finish: Callable[..., Kept] | None = None,
    **others: Any,
) -> None:
    """Register a rule of kernels. They read 16-bit tensors as they are; compiled, they are one operator.

    Args:
        gradients, formula, compiled, finish, others: as of :class:`~graphkd_kernels.autograd.Rule`. Gradients are
            contiguous.
    """
    again = repeated(finish) if finish is not None else None
    register(name, Rule(repeated(gradients), formula, finish=again, compiled=compiled, widens=False, **others))


def fit(*tensors: Maybe) -> None:
    """Raises: BackendUnavailableError for tensors where no kernels run; ValueError for several devices."""
    there = [each for each in tensors if each is not None]
    why = None if there[0].is_meta and recorded() else unfit(there[0])
    if why is not None:
        raise BackendUnavailableError.because("triton", why)
    devices = {each.device for each in there}
    if len(devices) > 1:
        raise ValueError(f"tensors are on {', '.join(sorted(map(str, devices)))}: move them to one device")
