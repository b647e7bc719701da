"""Tiles, warps and stages of the kernels that walk over rows: a static table, every row of which passes the gate."""

import torch
import triton

from graphkd_kernels._triton.configs import Config, Math, math
from graphkd_kernels._triton.launch import arch

# Rows hold for compute capabilities from theirs up to the next. Tile, depth of one step of a product, warps, stages.
TABLE: dict[tuple[str, str], dict[int, Config]] = {
    ("flash", "tf32x3"): {80: Config(64, 64, 32, 4, 2)},
    ("flash", "fp64"): {80: Config(32, 32, 16, 4, 2)},
    ("knn", "tf32x3"): {80: Config(64, 64, 32, 4, 2)},
    ("gather", "tf32x3"): {80: Config(1, 1, 1, 4, 1)},
    ("gather", "fp64"): {80: Config(1, 1, 1, 4, 1)},
    ("spectral", "tf32x3"): {80: Config(64, 32, 32, 4, 2)},
    ("spectral", "fp64"): {80: Config(32, 32, 16, 4, 2)},
    ("flash_bwd", "tf32x3"): {80: Config(64, 32, 32, 4, 2)},
    ("flash_bwd", "fp64"): {80: Config(32, 32, 16, 4, 2)},
}
WIDTHS = {"tf32x3": 64, "fp64": 32}
"""Features of a gradient that one program accumulates."""


def arithmetic(dtype: torch.dtype) -> Math:
    """float32's accuracy, or float64's: logits divided by a temperature do not bear operands of 16 bits."""
    return math(torch.float64 if dtype == torch.float64 else torch.float32)


def pick(kernel: str, math: Math, device: torch.device) -> Config:
    """The configuration of a kernel on a device; 64-tiles in the interpreter."""
    capability = arch(device)
    if capability == 0:
        return Config(64, 64, 64, 4, 1)
    table = TABLE[kernel, math.name]
    return table[max(row for row in table if row <= capability)]


def width(features: int, math: Math, device: torch.device) -> int:
    """Features that one program accumulates: all, if they are few."""
    most = WIDTHS[math.name] if arch(device) else 64
    return min(max(triton.next_power_of_2(features), 16), most)


def long_rows(columns: int, device: torch.device, elements: int = 4096) -> Config:
    """Whole rows by programs that hold about so many elements at once; 32 rows in the interpreter."""
    block = min(max(triton.next_power_of_2(columns), 16), elements)
    rows = max(1, elements // block) if arch(device) else 32
    return Config(min(rows, 16) if arch(device) else rows, block, 1, 8 if elements >= 4096 else 4, 1)


def angle_tile(n: int, dtype: torch.dtype, device: torch.device) -> tuple[int, Config]:
    """Tile of pairs that a program holds, and its warps: small where few tiles would leave the device idle."""
    tile = 64 if n > 1024 else 32 if n > 256 else 16
    if dtype == torch.float64:
        tile = min(tile, 32)
    if arch(device) == 0:
        tile = 64
    return tile, Config(tile, tile, 1, max(1, tile * tile // 1024), 1)
