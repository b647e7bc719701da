"""Precision of a frozen network, whatever surrounds the call."""

from typing import Literal, TypeAlias

import torch

from graphkd.registry import unknown

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def checked(precision: Precision) -> Precision:
    """The name itself. Raises: UnknownNameError with the list."""
    if precision not in _DTYPES:
        raise unknown("precision", precision, list(_DTYPES))
    return precision


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast to half precision; for ``"fp32"`` none, even inside an outer one."""
    if precision == "fp32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=_DTYPES[precision])
