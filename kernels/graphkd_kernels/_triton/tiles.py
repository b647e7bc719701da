"""What every tile kernel is made of: masked operand loads and products with their precision stated."""

import triton
import triton.language as tl

COUNTS = [
    "n", "blocks", "first", "per_batch", "split_rows", "splits", "splits_x", "splits_y",
    "tiles", "tiles_d", "tiles_m", "tiles_n",
]  # fmt: skip
"""Arguments that say how many rows, blocks or tiles, and are no stride of an address: a kernel is compiled once for all
their values. Of the others, Triton compiles anew for a 1 and for multiples of 16, which make loads wide."""


@triton.jit
def _nearest(x):
    """float32 rounded to bfloat16's digits, as a GPU does. Triton's interpreter cuts the others off, and has no
    arithmetic for bfloat16 (its products are silently wrong)."""
    bits = x.to(tl.float32).to(tl.int32, bitcast=True)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)


@triton.jit
def dot(a, b, total, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """total + a @ b."""
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)


@triton.jit
def narrow(x, TYPE: tl.constexpr, UPCAST: tl.constexpr):
    """x in a type. UPCAST: in the interpreter, which cuts bfloat16 off, a GPU rounds to nearest."""
    if UPCAST and tl.bfloat16 == TYPE:
        x = _nearest(x)
    return x.to(TYPE)


@triton.jit
def exact(number, TYPE: tl.constexpr):
    """A number in the type of the sums; left to itself it would have 32 bits."""
    return tl.full([1], number, TYPE)


@triton.jit
def huber_slope(gap):
    """Derivative of smooth L1, written so that a NaN stays: clamping would drop it."""
    return tl.where(gap > 1.0, 1.0, tl.where(gap < -1.0, -1.0, gap))


@triton.jit
def upper_tile(index, tiles):
    """Tile (i, j) on or above the diagonal, and whether this program is the first that has it.

    Rows p and T-1-p of the T x T tiles hold T+1 such tiles together, so the grid is a rectangle of ceil(T/2) x (T+1)
    and needs no root to find its way. The middle row of an odd number is paired with itself.
    """
    p, q = index // (tiles + 1), index % (tiles + 1)
    first = q < tiles - p
    return tl.where(first, p, tiles - 1 - p), tl.where(first, p + q, q - 1), first | (p != tiles - 1 - p)


def triangle(tiles: int) -> int:
    """Programs of the rectangle of :func:`upper_tile`."""
    return -(-tiles // 2) * (tiles + 1)


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
def _column(base, row, rows, k, cols, stride, TYPE: tl.constexpr):
    """Column k of some rows; 0 outside."""
    return tl.load(base + row.to(tl.int64) * stride + k, mask=(row < rows) & (row * 0 + k < cols), other=0.0).to(TYPE)


@triton.jit
def apart(a, b, row, col, n, m, width, a_row, b_row, SUMS: tl.constexpr):
    """Squared distances of some rows of a from some rows of b by their differences: no digit is lost, and no product
    is made, so that it takes a device two or three times as long."""
    total = tl.zeros([row.shape[0], col.shape[0]], SUMS)
    for k in range(width):
        gap = _column(a, row, n, k, width, a_row, SUMS)[:, None] - _column(b, col, m, k, width, b_row, SUMS)[None, :]
        total += gap * gap
    return total


@triton.jit
def pull(weight, a, b, row, col, n, m, start, width, a_row, b_row, COLUMNS: tl.constexpr, SUMS: tl.constexpr):
    """Sums of weight_ij (a_i - b_j) over a tile, by differences; of the columns from start on."""
    total = tl.zeros([row.shape[0], COLUMNS], SUMS)
    here = tl.arange(0, COLUMNS)[None, :]
    for k in range(COLUMNS):
        x, y = _column(a, row, n, start + k, width, a_row, SUMS), _column(b, col, m, start + k, width, b_row, SUMS)
        total = tl.where(here == k, tl.sum(weight * (x[:, None] - y[None, :]), 1)[:, None], total)
    return total


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


@triton.jit
def last(count_ptr, programs):
    """Whether this program is the last of so many to arrive: it then sees what the others stored before. It sets the
    count back to 0, for the next launch; a launch before the first has cleared it (``rows.rows_fwd_kernel``)."""
    arrived = tl.atomic_add(count_ptr, 1, sem="acq_rel", scope="gpu") == programs - 1
    if arrived:
        tl.store(count_ptr, 0)
    return arrived


@triton.jit
def added(part_ptr, parts):
    """The float64 sum of what programs stored, in the order of their numbers, whoever arrived when. Sums of squares
    are not negative: what rounding made of one is 0."""
    at = tl.arange(0, 1024)
    found = tl.zeros([1024], tl.float64)
    for start in range(0, parts, 1024):
        # From the L2 cache, where other programs' stores are.
        found += tl.load(part_ptr + start + at, mask=start + at < parts, other=0.0, cache_modifier=".cg")
    found = tl.sum(found, 0)
    return tl.where(found < 0, 0.0, found)  # a NaN is not, and passes


@triton.jit
def add_up(part_ptr, count_ptr, value_ptr, index, part, programs):
    """Store a program's part of a sum; the last of the programs stores the sum."""
    tl.store(part_ptr + index, part)
    if last(count_ptr, programs):
        tl.store(value_ptr, added(part_ptr, programs))
