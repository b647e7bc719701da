"""float32 matrices as sums of bfloat16 ones, and their products on tensor cores.

A float32 number is a bfloat16 number plus a rest, which is a bfloat16 number plus a rest: two terms hold 16 bits of it,
three all 24. Products of bfloat16 numbers are exact in float32, so A B is the sum of the products of terms, without the
smallest: 3 of the 4 products of two terms, 6 of the 9 of three. Split once, operands reach the tensor cores by
asynchronous copies; splitting inside a product, as three-term tf32 does, waits for every step.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton import interpreting
from graphkd_kernels._triton.configs import MATHS, map_tile, padded, terms_tile
from graphkd_kernels._triton.launch import Config, Math, empty, launch
from graphkd_kernels._triton.tiles import COUNTS, block_of, dot, load, narrow


@triton.jit
def store_terms(ptr, place, step, x, keep, TERMS: tl.constexpr, UPCAST: tl.constexpr):
    """x as terms, each ``step`` after the one before; as it is where TERMS is 0. Returns what the terms leave of x."""
    if TERMS == 0:
        tl.store(ptr + place, x.to(ptr.dtype.element_ty), mask=keep)
        x *= 0.0
    else:
        for _ in tl.static_range(TERMS):
            term = narrow(x, ptr.dtype.element_ty, UPCAST)
            tl.store(ptr + place, term, mask=keep)
            x -= term.to(x.dtype)
            ptr += step
    return x


@triton.jit(do_not_specialize=COUNTS)
def split_kernel(
    x_ptr, out_ptr, n, d, width, tiles, x_batch, x_row, step,
    TERMS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Rows of x (b, n, d) to out (TERMS, b, n, width), 0 beyond d."""
    batch, row = block_of(tiles, ROWS)
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        x = load(x_ptr + batch * x_batch, row, column, n, d, x_row).to(tl.float32)
        place = (batch * n + row)[:, None] * width + column[None, :]
        store_terms(out_ptr, place, step, x, (row < n)[:, None] & (column < width)[None, :], TERMS, UPCAST)


@triton.jit
def _tile(base, row, column, rows, columns, row_step, column_step):
    """A tile of a matrix with any strides; what lies outside is 0."""
    keep = (row < rows)[:, None] & (column < columns)[None, :]
    place = row.to(tl.int64)[:, None] * row_step + column.to(tl.int64)[None, :] * column_step
    return tl.load(base + place, mask=keep, other=0.0)


@triton.jit
def _load_terms(base, step, row, column, rows, columns, row_step, column_step, TERMS: tl.constexpr):
    """A tile of each term; the first one for those that are not there."""
    first = _tile(base, row, column, rows, columns, row_step, column_step)
    second, third = first, first
    if TERMS > 1:
        second = _tile(base + step, row, column, rows, columns, row_step, column_step)
    if TERMS == 3:
        third = _tile(base + 2 * step, row, column, rows, columns, row_step, column_step)
    return first, second, third


@triton.jit
def _dots(
    a0, a1, a2, b0, b1, b2, total,
    A_TERMS: tl.constexpr, B_TERMS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """total + the products of terms; small ones first."""
    if A_TERMS == 3:
        total = dot(a2, b0, total, PRECISION, UPCAST)
    if B_TERMS == 3:
        total = dot(a0, b2, total, PRECISION, UPCAST)
    if A_TERMS == 3 and B_TERMS == 3:
        total = dot(a1, b1, total, PRECISION, UPCAST)
    if A_TERMS > 1:
        total = dot(a1, b0, total, PRECISION, UPCAST)
    if B_TERMS > 1:
        total = dot(a0, b1, total, PRECISION, UPCAST)
    return dot(a0, b0, total, PRECISION, UPCAST)


@triton.jit
def terms_dot(
    a_ptr, b_ptr, row, k, column, n, m, a_depth, b_depth, a_step, b_step, a_row, a_k, b_k, b_column, total,
    A_TERMS: tl.constexpr, B_TERMS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """total + some columns of A times the same rows of B, from their terms."""
    a0, a1, a2 = _load_terms(a_ptr, a_step, row, k, n, a_depth, a_row, a_k, A_TERMS)
    b0, b1, b2 = _load_terms(b_ptr, b_step, k, column, b_depth, m, b_k, b_column, B_TERMS)
    return _dots(a0, a1, a2, b0, b1, b2, total, A_TERMS, B_TERMS, PRECISION, UPCAST)


@triton.jit
def split_dot(
    x, b_ptr, k, column, b_depth, m, b_step, b_row, total,
    TERMS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """total + x, which is in registers and split there, times some rows of B, of as many terms."""
    b0, b1, b2 = _load_terms(b_ptr, b_step, k, column, b_depth, m, b_row, 1, TERMS)
    a0 = narrow(x, b0.dtype, UPCAST)
    a1, a2 = a0, a0
    if TERMS > 1:
        x -= a0.to(x.dtype)
        a1 = narrow(x, b0.dtype, UPCAST)
    if TERMS == 3:
        a2 = narrow(x - a1.to(x.dtype), b0.dtype, UPCAST)
    return _dots(a0, a1, a2, b0, b1, b2, total, TERMS, TERMS, PRECISION, UPCAST)


@triton.jit
def row_products(
    a_ptr, b_ptr, row, column, n, m, width, a_step, b_step, a_row, b_row,
    TERMS: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Inner products of some rows of A with some rows of B, from their terms."""
    a_step, b_step = tl.cast(a_step, tl.int64), tl.cast(b_step, tl.int64)  # twice as much may pass 2**31
    total = tl.zeros([row.shape[0], column.shape[0]], SUMS)
    for start in range(0, width, BK):
        total = terms_dot(
            a_ptr, b_ptr, row, start + tl.arange(0, BK), column, n, m, width, width, a_step, b_step, a_row, 1, 1, b_row,
            total, TERMS, TERMS, PRECISION, UPCAST,
        )  # fmt: skip
    return total


@triton.jit(do_not_specialize=["tiles_n", "tiles_m"])
def terms_product_kernel(
    a_ptr, b_ptr, out_ptr, n, m, a_depth, b_depth, part, tiles_n, tiles_m, a_step, b_step,
    a_batch, b_batch, out_batch, out_part, a_row, a_k, b_k, b_column, out_row,
    A_TERMS: tl.constexpr, B_TERMS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """A (b, n, a_depth) B (b, b_depth, m) to out (parts, b, n, m), from their terms; a part sums ``part`` of the depth.

    Beyond a depth all is 0.
    """
    tiles = tiles_n * tiles_m
    batch, index = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    row, column = (index // tiles_m) * ROWS + tl.arange(0, ROWS), (index % tiles_m) * COLUMNS + tl.arange(0, COLUMNS)
    a_ptr, b_ptr = a_ptr + batch * a_batch, b_ptr + batch * b_batch
    out_ptr += batch * out_batch + tl.program_id(1).to(tl.int64) * out_part
    a_step, b_step = tl.cast(a_step, tl.int64), tl.cast(b_step, tl.int64)  # twice as much may pass 2**31
    total = tl.zeros([ROWS, COLUMNS], SUMS)
    first = tl.program_id(1) * part
    for start in range(first, tl.minimum(first + part, a_depth), BK):
        k = start + tl.arange(0, BK)
        total = terms_dot(
            a_ptr, b_ptr, row, k, column, n, m, a_depth, b_depth, a_step, b_step, a_row, a_k, b_k, b_column, total,
            A_TERMS, B_TERMS, PRECISION, UPCAST,
        )  # fmt: skip
    keep = (row < n)[:, None] & (column < m)[None, :]
    place = out_ptr + row.to(tl.int64)[:, None] * out_row + column[None, :]
    tl.store(place, total, mask=keep)


def terms_of(dtype: torch.dtype) -> int:
    """Terms that hold every number of a dtype; 0 for float64, whose products are the vendor's."""
    return {torch.float64: 0, torch.bfloat16: 1}.get(dtype, 3)


@dataclass(frozen=True)
class Terms:
    """A batch of matrices (b, n, d) as terms (terms, b, n, width), columns beyond d 0."""

    planes: Tensor
    d: int

    def part(self, graphs: slice, rows: slice = slice(None)) -> "Terms":
        """Some graphs and rows."""
        return Terms(self.planes[:, graphs, rows], self.d)

    def times_rows(self, other: "Terms") -> Tensor:
        """Inner products of rows. Shapes: (b, n, d), (b, m, d) -> (b, n, m), rows apart by a multiple of 16."""
        (_, b, n, _), m = self.planes.shape, other.planes.shape[2]
        out = empty((b, n, padded(m)), torch.float32, self.planes.device)[..., :m]
        config = terms_tile(len(self.planes) + len(other.planes), out.numel(), out.device)
        multiply(self.planes, other.planes.transpose(2, 3), out.unsqueeze(0), config)
        return out

    def times(self, other: "Terms") -> Tensor:
        """These (b, n, m) times (b, m, d)."""
        return _summed(self.planes, other, self.planes.shape[2])

    def turned_times(self, other: "Terms") -> Tensor:
        """These (b, n, m), turned to (b, m, n), times (b, n, d)."""
        return _summed(self.planes.transpose(2, 3), other, self.d)


def _summed(a: Tensor, other: Terms, rows: int) -> Tensor:
    """A product whose sums are long: in parts where its tiles are few, which are added in order."""
    b, longest = a.shape[1], max(1, a.shape[3] // 1024)
    config = terms_tile(len(a) + len(other.planes), b * rows * other.d * longest, a.device)
    tiles = b * triton.cdiv(rows, config.rows) * triton.cdiv(other.d, config.columns)
    parts = max(1, min(132 // max(tiles, 1), longest))  # of the shape alone, so results repeat
    out = empty((parts, b, rows, other.d), torch.float32, a.device)
    multiply(a, other.planes, out, config)
    return out[0] if parts == 1 else out.sum(0)


def multiply(a: Tensor, b: Tensor, out: Tensor, config: Config, math: Math = MATHS["bf16"]) -> None:
    """out (parts, b, n, m) = a b, from terms (terms, b, n, depth) and (terms, b, depth, m)."""
    parts, graphs, n, m = out.shape
    tiles_n, tiles_m, depth = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns), a.shape[3]
    launch(
        terms_product_kernel, (graphs * tiles_n * tiles_m, parts), config, math, a_ptr=a, b_ptr=b, out_ptr=out,
        n=n, m=m, a_depth=depth, b_depth=b.shape[2], tiles_n=tiles_n, tiles_m=tiles_m, a_step=a.stride(0),
        part=triton.cdiv(triton.cdiv(depth, parts), config.depth) * config.depth, b_step=b.stride(0),
        a_batch=a.stride(1), b_batch=b.stride(1), out_batch=out.stride(1), out_part=out.stride(0), a_row=a.stride(2),
        a_k=a.stride(3), b_k=b.stride(2), b_column=b.stride(3), out_row=out.stride(2), A_TERMS=len(a), B_TERMS=len(b),
    )  # fmt: skip


def split(x: Tensor, terms: int) -> Terms:
    """A batch of matrices (b, n, d), columns of stride 1, as terms; bfloat16 of a fitting width is one as it is."""
    (b, n, d), width = x.shape, padded(x.shape[2])
    if terms == 1 and x.dtype == torch.bfloat16 and d == width and x.is_contiguous():
        return Terms(x.unsqueeze(0), d)
    planes = empty((terms, b, n, width), torch.bfloat16, x.device)
    config = map_tile(width, torch.float32, x.device)
    tiles = triton.cdiv(n, config.rows)
    launch(
        split_kernel, (b * tiles,), config, MATHS["bf16"], x_ptr=x, out_ptr=planes, n=n, d=d, width=width, tiles=tiles,
        x_batch=x.stride(0), x_row=x.stride(1), step=planes.stride(0), TERMS=terms, UPCAST=interpreting(),
    )  # fmt: skip
    return Terms(planes, d)
