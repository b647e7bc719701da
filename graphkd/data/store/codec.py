r"""How a sample's features lie in a shard: floating-point rows, or rows of 8 bits with a scale and an offset each.

.. math:: q_{ij} = \mathrm{round}\big((x_{ij} - o_i) / s_i\big), \qquad o_i = (\max_j x_{ij} + \min_j x_{ij}) / 2,
          \qquad s_i = (\max_j x_{ij} - \min_j x_{ij}) / 254

so that int8 errs by at most :math:`s_i / 2`, a 508th of the row's range. The offset matters for class scores: those of
CLIP lie between 10 and 35, and a scale alone would spend its steps on values that never occur.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graphkd.registry import unknown
from graphkd.typing import Float, Tensor

Array = np.ndarray[Any, Any]
_RANGE = ".range"


@dataclass(frozen=True)
class Kind:
    """A number format: its name in safetensors, in torch, and the numpy type whose bits stand for it."""

    name: str
    torch: torch.dtype
    raw: type[np.generic]  # numpy has no bfloat16: rows move as bits


KINDS = {
    "float32": Kind("F32", torch.float32, np.int32),
    "float16": Kind("F16", torch.float16, np.int16),
    "bfloat16": Kind("BF16", torch.bfloat16, np.int16),
    "int8": Kind("I8", torch.int8, np.int8),
}


@dataclass(frozen=True)
class Column:
    """One tensor of a shard: its number format and its width."""

    kind: Kind
    width: int

    @property
    def bytes(self) -> int:
        """Of one row."""
        return self.width * self.kind.torch.itemsize


def columns(widths: Mapping[str, int], dtype: str, drawn: int) -> dict[str, Column]:
    """The tensors of a shard.

    Args:
        widths: of embedding and logits.
        dtype: of these, a key of ``KINDS``.
        drawn: numbers that describe the augmentation of a view; 0 for none.
    """
    found = {part: Column(KINDS[dtype], width) for part, width in widths.items()}
    if dtype == "int8":
        found |= {part + _RANGE: Column(KINDS["float32"], 2) for part in widths}
    return found | ({"drawn": Column(KINDS["float32"], drawn)} if drawn else {})


def encode(part: str, values: Float[Tensor, "n d"], dtype: str) -> dict[str, Tensor]:
    """Rows as they are written, on the CPU: one tensor, or for int8 the numbers and (scale, offset) of each row."""
    if dtype != "int8":
        return {part: values.to("cpu", KINDS[dtype].torch)}
    x = values.float().cpu()
    low, high = x.aminmax(dim=1, keepdim=True)
    scale, offset = high / 254 - low / 254, high / 2 + low / 2
    steps = ((x - offset) / scale.where(scale > 0, 1)).round().clamp(-127, 127)
    return {part: steps.to(torch.int8), part + _RANGE: torch.cat([scale, offset], dim=1)}


def decode(part: str, rows: Mapping[str, Tensor], dtype: str) -> Float[Tensor, "n d"]:
    """The reverse of :func:`encode`, in float32."""
    values = rows[part].float()
    if dtype != "int8":
        return values
    spread = rows[part + _RANGE]
    return values.mul_(spread[:, :1]).add_(spread[:, 1:])


def check_dtype(dtype: str) -> None:
    """Raises: UnknownNameError for a dtype that no store has."""
    if dtype not in KINDS:
        raise unknown("store dtype", dtype, list(KINDS))
