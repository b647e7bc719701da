"""Arithmetic, tiles, warps and stages of each kernel: static tables, checked ahead of time."""

import torch
import triton

from graphkd_kernels._triton.launch import Config, Math, arch
from graphkd_kernels.machine_plan import tile

MATHS = {
    math.name: math
    for math in (
        Math("bf16", torch.bfloat16, torch.float32, "ieee"),  # products of 16-bit numbers as they are are exact
        Math("bf16x3", torch.bfloat16, torch.float32, "ieee", 2),  # factors of two terms, 16 digits: three products
        Math("bf16x6", torch.bfloat16, torch.float32, "ieee", 3),  # of three, all 24 digits: six products
        Math("tf32x3", torch.float32, torch.float32, "tf32x3"),  # split inside the product: 22 digits
        Math("fp64", torch.float64, torch.float64, "ieee"),
    )
}


def math(dtype: torch.dtype) -> Math:
    """The arithmetic for inputs of a dtype, the widest of them.

    Two terms of bfloat16 for 16-bit inputs, after U and V are formed in float32; three for float32; float64 stays
    float64. What does not bear 16 digits (distances, logits divided by a temperature) widens first.
    """
    return MATHS[{torch.float64: "fp64", torch.float32: "bf16x6"}.get(dtype, "bf16x3")]


def math_of_distances(dtype: torch.dtype) -> Math:
    """The arithmetic of distances, whose rows stay whole: close ones are subtracted from each other."""
    return MATHS["fp64" if dtype == torch.float64 else "tf32x3"]


# By kernel and arithmetic, then by compute capability: a row holds from its own up to the next.
_TABLE: dict[tuple[str, str], dict[int, Config]] = {
    ("edges", "fp64"): {80: Config(64, 64, 16, 8, 2), 90: Config(64, 64, 16, 8, 3)},
    ("edges_bwd", "bf16x3"): {80: Config(32, 32, 32, 4, 2, chunk=64), 90: Config(64, 64, 32, 4, 2, chunk=64)},
    ("edges_bwd", "bf16x6"): {80: Config(32, 32, 32, 4, 2, chunk=64), 90: Config(64, 64, 32, 4, 2, chunk=64)},
    ("edges_bwd", "fp64"): {80: Config(64, 32, 16, 8, 2, chunk=64), 90: Config(32, 32, 16, 8, 2, chunk=64)},
    ("inner", "bf16"): {80: Config(128, 128, 64, 8, 3)},
    ("gram", "fp64"): {80: Config(64, 64, 16, 8, 2)},
    ("terms_product", "fp64"): {80: Config(64, 64, 16, 8, 2)},
    ("distances", "tf32x3"): {80: Config(64, 64, 16, 8, 3), 90: Config(64, 64, 32, 8, 3)},
    ("distances", "fp64"): {80: Config(64, 64, 16, 8, 3)},
    ("pull", "tf32x3"): {80: Config(64, 64, 32, 4, 2)},  # as many rows as a tile of distances
    ("pull", "fp64"): {80: Config(64, 32, 16, 8, 2)},
}


def pick(kernel: str, math: Math, device: torch.device, entries: int = 2**62) -> Config:
    """The configuration of a kernel on a device, by its plan or our table; 64-tiles in the interpreter.

    Args:
        entries: of the result; smaller tiles where there are few.
    """
    capability = arch(device)
    if capability == 0:
        return Config(64, 16 if kernel == "pull" else 64, 64, 4, 1, chunk=32 if kernel == "edges_bwd" else 64)
    tuned = tile(kernel, math.name, str(device))
    if tuned is not None:
        return Config(*tuned)
    if (kernel, math.name) not in _TABLE:
        return terms_tile(2 * math.terms, entries, device)
    table = _TABLE[kernel, math.name]
    return table[max(row for row in table if row <= capability)]


def terms_tile(terms: int, entries: int, device: torch.device) -> Config:
    """Of products of so many terms on both sides: two programs a multiprocessor; smaller tiles where there are few.

    Args:
        entries: of the result, times the parts in which its sums may be taken.
    """
    if arch(device) == 0:
        return Config(64, 64, 64, 4, 1)
    if arch(device) < 90:  # whose assembler spills larger ones, and some of two terms on both sides in two stages
        return Config(64, 64, 32, 8, 3 if terms == 4 else 2)
    few = entries < 132 * 128 * 128
    return Config(64, 64, 32, 4, 3) if few else Config(128, 128, 32, 8, 2 if terms == 6 else 3)


def knn_tile(terms: int, k: int, device: torch.device) -> Config:
    """Of distances, of which a program keeps k for each of its rows."""
    if arch(device) == 0:
        return Config(64, 64, 64, 4, 1)
    if arch(device) < 90:
        return Config(32, 64, 32, 4, 2)  # what its assembler does not spill
    return Config(64, 64, 32, 4 if k <= 32 and terms == 1 else 8, 3 if terms == 1 else 2)


def power(number: int, most: int) -> int:
    """The power of two that holds a number: 16 at least, so that products take it, and at most so many."""
    return int(min(max(triton.next_power_of_2(number), 16), most))


def padded(d: int) -> int:
    """Widths are made multiples of 16 by columns of 0, so that every row is aligned (49 or 196 positions are not)."""
    return -(-d // 16) * 16


def square(size: int) -> Config:
    """A square tile of kernels without products, in 4 warps."""
    return Config(size, size, 1, 4, 1)


def map_tile(width: int, dtype: torch.dtype, device: torch.device) -> Config:
    """1,024 elements in registers (half of them in float64), whatever the width; 64 rows in the interpreter."""
    elements = 512 if dtype == torch.float64 else 1024
    block = power(width, elements)
    return Config(64 if arch(device) == 0 else elements // block, block, 1, 4 if dtype == torch.float64 else 8, 1)


def long_rows(columns: int, dtype: torch.dtype, device: torch.device, most: int = 8192) -> Config:
    """Whole rows by programs that hold some bytes of a matrix at once; 32 rows in the interpreter.

    Args:
        dtype: of the sums. most: bytes, fewer for kernels that keep much beside them.
    """
    block = power(columns, most // dtype.itemsize)
    rows = min(most // dtype.itemsize // block, 16) if arch(device) else 32
    return Config(rows, block, 1, 8, 1)


def short_tile(columns: int, dtype: torch.dtype, device: torch.device) -> Config:
    """A tile for one visit of every number, without sums over it."""
    if arch(device) == 0:
        return square(64)
    return Config(16, power(columns, 512 // dtype.itemsize), 1, dtype.itemsize, 1)


def angle_tile(n: int, dtype: torch.dtype, device: torch.device) -> Config:
    """Pairs that a program holds, and its warps: few where few tiles would leave the device idle."""
    capability = arch(device)
    if capability == 0:
        return square(64)
    before, double = capability < 90, dtype == torch.float64
    most = 64 // (1 + double) // (1 + before)  # larger tiles spill: more of them with sm_80's assembler
    tile = min(16 if n <= 256 else 32 if n <= 1024 else 64, most)
    numbers = 256 if not double else 128 if before else 64  # of the tile, by each warp
    return Config(tile, tile, 1, tile * tile // numbers, 1)
