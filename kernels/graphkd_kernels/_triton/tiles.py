"""What every tile kernel is made of: masked operand loads and products with their precision stated."""

from typing import Any

import torch
import triton
import triton.language as tl

from graphkd_kernels._triton import interpreting
from graphkd_kernels._triton.configs import Math

TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


def constants(math: Math, dot: bool = True) -> dict[str, Any]:
    """A kernel's constants for one kind of arithmetic; ``dot``: it has products."""
    upcast = interpreting() and math.storage == torch.bfloat16
    return {"UPCAST": upcast, "SUMS": TYPES[math.sums]} | ({"PRECISION": math.precision} if dot else {})


@triton.jit
def dot(a, b, total, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """total + a @ b. UPCAST: Triton's interpreter has no arithmetic for bfloat16 (its products are silently wrong)."""
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)


@triton.jit
def narrow(x, TYPE: tl.constexpr, UPCAST: tl.constexpr):
    """x in the operands' type. UPCAST: the interpreter cuts bfloat16 off, a GPU rounds to nearest, so round here."""
    if UPCAST:
        bits = x.to(tl.float32).to(tl.int32, bitcast=True)
        x = (bits + 0x7FFF + ((bits >> 16) & 1)).to(tl.float32, bitcast=True)
    return x.to(TYPE)


@triton.jit
def block_of(tiles, SIZE: tl.constexpr):
    """This program's graph, int64, and its indices (rows or columns) there; a graph has so many tiles."""
    return (tl.program_id(0) // tiles).to(tl.int64), (tl.program_id(0) % tiles) * SIZE + tl.arange(0, SIZE)


@triton.jit
def load(base, row, col, rows, cols, stride):
    """A tile of a row-major matrix; what lies outside is 0. ``base`` is the matrix, ``row`` and ``col`` are indices."""
    keep = (row < rows)[:, None] & (col < cols)[None, :]
    # int64: rows * stride may pass 2**31
    return tl.load(base + row.to(tl.int64)[:, None] * stride + col[None, :], mask=keep, other=0.0)


@triton.jit
def products(
    a, b, row, col, n, m, width, a_row, b_row,
    BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Inner products of some rows of a with some rows of b."""
    total = tl.zeros([row.shape[0], col.shape[0]], SUMS)
    for start in range(0, width, BK):
        k = start + tl.arange(0, BK)
        total = dot(load(a, row, k, n, width, a_row), load(b, col, k, m, width, b_row).T, total, PRECISION, UPCAST)
    return total
