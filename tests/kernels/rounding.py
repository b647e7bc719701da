"""Products as a GPU makes them while ``torch.set_float32_matmul_precision`` allows tf32, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "addmm_", "baddbmm_", "addmv", "mv", "dot"}


def tf32(x: Tensor) -> Tensor:
    """Float32 with 10 bits of mantissa, rounded to nearest."""
    return ((x.contiguous().view(torch.int32) + 0xFFF + 1) & ~0x1FFF).view(torch.float32)


class _Rounding(TorchDispatchMode):
    """Rounds the factors of float32 products wherever the switch allows it, and counts them."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in _PRODUCTS and torch.backends.mkldnn.matmul.fp32_precision not in ("none", "ieee"):
            factors = range(len(args) - 2, len(args))
            args = [tf32(x) if i in factors and x.dtype == torch.float32 else x for i, x in enumerate(args)]
            self.count += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def rounded_products() -> Iterator[_Rounding]:
    """Inside, the switch is "high" and products do what it allows."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with _Rounding() as mode:
            yield mode
    finally:
        torch.set_float32_matmul_precision(before)
