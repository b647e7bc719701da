"""Tiles, warps and stages of the kernels that walk over rows: a static table, every row of which passes the gate."""

import torch
import triton

from graphkd_kernels._triton.configs import Config, Math, math
from graphkd_kernels._triton.launch import arch

# By kernel and arithmetic, then by compute capability: a row holds from its own up to the next.
TABLE: dict[tuple[str, str], dict[int, Config]] = {
    ("flash", "tf32x3"): {80: Config(32, 32, 32, 4, 2), 90: Config(64, 64, 32, 8, 2), 100: Config(64, 32, 32, 8, 2)},
    ("flash", "fp64"): {80: Config(32, 16, 16, 4, 2), 100: Config(32, 32, 16, 8, 2)},
    ("flash_bwd", "tf32x3"): {
        80: Config(32, 32, 32, 4, 2, chunk=64),
        90: Config(64, 32, 32, 8, 2, chunk=64),
        100: Config(64, 64, 32, 8, 2, chunk=64),
    },
    ("flash_bwd", "fp64"): {
        80: Config(32, 16, 16, 4, 2, chunk=32),
        90: Config(32, 16, 16, 4, 1, chunk=32),
        100: Config(16, 16, 16, 4, 2, chunk=32),
    },
    ("knn", "tf32x3"): {80: Config(32, 64, 32, 8, 2), 90: Config(64, 64, 32, 8, 2)},
    ("spectral", "tf32x3"): {80: Config(32, 32, 32, 8, 2, chunk=64), 90: Config(64, 32, 32, 8, 2, chunk=64)},
    ("spectral", "fp64"): {80: Config(32, 16, 16, 4, 2, chunk=32)},
}


def arithmetic(dtype: torch.dtype) -> Math:
    """float32's accuracy, or float64's: logits divided by a temperature do not bear operands of 16 bits."""
    return math(torch.float64 if dtype == torch.float64 else torch.float32)


def pick(kernel: str, math: Math, device: torch.device) -> Config:
    """The configuration of a kernel on a device; 64-tiles in the interpreter."""
    capability = arch(device)
    if capability == 0:
        return Config(64, 64, 64, 4, 1, chunk=64)
    table = TABLE[kernel, math.name]
    return table[max(row for row in table if row <= capability)]


def width(features: int, config: Config) -> int:
    """Features that one program accumulates: all, if they are few."""
    return int(min(max(triton.next_power_of_2(features), 16), config.chunk))


def long_rows(columns: int, dtype: torch.dtype, device: torch.device, most: int = 8192) -> Config:
    """Whole rows by programs that hold some bytes of a matrix at once; 32 rows in the interpreter.

    Args:
        dtype: of the sums. most: bytes, fewer for kernels that keep much beside them.
    """
    block = min(max(triton.next_power_of_2(columns), 16), most // dtype.itemsize)
    rows = min(most // dtype.itemsize // block, 16) if arch(device) else 32
    return Config(rows, block, 1, 8, 1)


def short_tile(columns: int, dtype: torch.dtype, device: torch.device) -> Config:
    """A tile for one visit of every number, without sums over it."""
    if arch(device) == 0:
        return Config(64, 64, 1, 4, 1)
    most = 512 // dtype.itemsize
    return Config(16, min(max(triton.next_power_of_2(columns), 16), most), 1, dtype.itemsize, 1)


def angle_tile(n: int, dtype: torch.dtype, device: torch.device) -> tuple[int, Config]:
    """Tile of pairs that a program holds, and its warps: small where few tiles would leave the device idle."""
    capability = arch(device)
    if capability == 0:
        return 64, Config(64, 64, 1, 4, 1)
    before, double = capability < 90, dtype == torch.float64
    most = 64 // (1 + double) // (1 + before)  # larger tiles spill: more of them with sm_80's assembler
    tile = min(16 if n <= 256 else 32 if n <= 1024 else 64, most)
    numbers = 256 if not double else 128 if before else 64  # of the tile, by each warp
    return tile, Config(tile, tile, 1, tile * tile // numbers, 1)
