"""Sums over all entries of a difference of two relations, and their gradient, tile by tile: no matrix of edges exists.

Products (gram, and cosine and Pearson after ``rows``): E = A B' with A = [U V], B = [V U].
Distances: two products, one for each side, and the squared sizes of the rows. Derivations: kernels/README.md.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton.configs import padded, pick, power
from graphkd_kernels._triton.grams import product
from graphkd_kernels._triton.launch import Math, empty, launch
from graphkd_kernels._triton.rows import normalise
from graphkd_kernels._triton.terms import row_products, split_dot, store_terms
from graphkd_kernels._triton.tiles import (
    COUNTS,
    add_up,
    apart,
    block_of,
    dot,
    huber_slope,
    load,
    products,
    pull,
    triangle,
    upper_tile,
)

PANEL = 2**23  # weights that exist at once, for operands however small
OTHERS = -(2**30)  # of two sets of nodes: no row is its own column
RELATIONS = {"product": 0, "euclidean": 1, "squared_euclidean": 2, "rbf": 3}


@triton.jit
def of_squares(square, gamma, gamma_rest, RELATION: tl.constexpr):
    """A relation of squared distances, and its derivative divided by x_i - y_j; equal rows have none."""
    near = square <= 0.0  # a NaN is not, and passes
    if RELATION == 1:
        value = tl.sqrt(square)
        slope = tl.where(near, 0.0, 1.0 / tl.where(near, 1.0, value))
    elif RELATION == 2:
        value, slope = square, tl.where(near, 0.0, 2.0)
    else:
        # A float argument is float32: what that lost comes separately.
        rate = tl.zeros([1, 1], square.dtype) + gamma + gamma_rest
        value = tl.exp(-rate * square)
        slope = tl.where(near, 0.0, -2.0 * rate * value)
    return value, slope


@triton.jit
def distances(
    a_ptr, b_ptr, size_a_ptr, size_b_ptr, row, col, n, m, own, width, a_row, b_row, gamma, gamma_rest,
    RELATION: tl.constexpr, TINY: tl.constexpr, CLOSE: tl.constexpr,
    BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """A relation of distances of centred rows, its derivative divided by x_i - y_j, and how many pairs are close.

    One such pair, and the tile is made again from the rows themselves, which stand ``width`` columns behind. ``own``:
    the column of row 0 itself, negative for other nodes.
    """
    product = products(a_ptr, b_ptr, row, col, n, m, width, a_row, b_row, BK, PRECISION, UPCAST, SUMS)
    size_a = tl.load(size_a_ptr + row, mask=row < n, other=0.0)
    size_b = tl.load(size_b_ptr + col, mask=col < m, other=0.0)
    sizes = size_a[:, None] + size_b[None, :]
    square = sizes - 2.0 * product
    others = (row < n)[:, None] & (col < m)[None, :] & ((row + own)[:, None] != col[None, :])
    close = tl.sum((others & (square < CLOSE * sizes)).to(tl.int32))  # a NaN is not, and passes
    square = tl.where(square <= TINY * sizes, 0.0, square)
    if close > 0:
        square = apart(a_ptr + width, b_ptr + width, row, col, n, m, width, a_row, b_row, SUMS)
    value, slope = of_squares(square, gamma, gamma_rest, RELATION)
    return value, slope, close


@triton.jit
def _difference(
    a_ptr, b_ptr, a2_ptr, b2_ptr, size_a_ptr, size_b_ptr, size_a2_ptr, size_b2_ptr,
    row, col, n, m, own, width, width2, a_step, b_step, a_row, b_row, a2_row, b2_row, gamma, gamma_rest,
    RELATION: tl.constexpr, TINY: tl.constexpr, CLOSE: tl.constexpr, TERMS: tl.constexpr,
    BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """A tile of differences, 0 outside, the slope of the first relation, and how many of its pairs are close."""
    if RELATION == 0:
        value = row_products(
            a_ptr, b_ptr, row, col, n, m, width, a_step, b_step, a_row, b_row, TERMS, BK, PRECISION, UPCAST, SUMS
        )
        slope, close = value * 0.0 + 1.0, 0
    else:
        value, slope, close = distances(
            a_ptr, b_ptr, size_a_ptr, size_b_ptr, row, col, n, m, own, width, a_row, b_row, gamma, gamma_rest,
            RELATION, TINY, CLOSE, BK, PRECISION, UPCAST, SUMS,
        )  # fmt: skip
        other, _, _ = distances(
            a2_ptr, b2_ptr, size_a2_ptr, size_b2_ptr, row, col, n, m, own, width2, a2_row, b2_row, gamma, gamma_rest,
            RELATION, TINY, CLOSE, BK, PRECISION, UPCAST, SUMS,
        )  # fmt: skip
        value = tl.where((row < n)[:, None] & (col < m)[None, :], value - other, 0.0)
    return value, slope, close


@triton.jit
def _penalty(gap, HUBER: tl.constexpr):
    """Penalties of differences and their derivatives; both 0 at 0."""
    if HUBER:
        size = tl.abs(gap)
        return tl.where(size < 1.0, 0.5 * gap * gap, size - 0.5), huber_slope(gap)
    return gap * gap, 2.0 * gap


@triton.jit(do_not_specialize=[*COUNTS, "m"])
def edges_fwd_kernel(
    a_ptr, b_ptr, a2_ptr, b2_ptr, size_a_ptr, size_b_ptr, size_a2_ptr, size_b2_ptr,
    out_ptr, count_ptr, value_ptr, panel_ptr, close_ptr,
    n, m, own, width, width2, tiles_n, tiles_m, per_batch, panel_step, panel_row, a_step, b_step,
    a_batch, b_batch, a2_batch, b2_batch, a_row, b_row, a2_row, b2_row, gamma, gamma_rest,
    RELATION: tl.constexpr, HUBER: tl.constexpr, SYMMETRIC: tl.constexpr, PANEL: tl.constexpr, TERMS: tl.constexpr,
    TINY: tl.constexpr, CLOSE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """The sum of penalties, by way of one for each tile; where PANEL weights go to panel (TERMS, b, n, panel_row), and
    to close, for distances, how many pairs of each tile are.

    SYMMETRIC: tiles above the diagonal count twice, those below are not made (``tiles.upper_tile``).
    """
    pid = tl.program_id(0)
    batch, index = (pid // per_batch).to(tl.int64), pid % per_batch
    fresh, count, part = True, 1.0, tl.cast(0.0, tl.float64)
    if SYMMETRIC:
        i, j, fresh = upper_tile(index, tiles_n)
        count = tl.where(i == j, 1.0, 2.0)
    else:
        i, j = index // tiles_m, index % tiles_m
    if fresh:
        row, col = i * ROWS + tl.arange(0, ROWS), j * COLUMNS + tl.arange(0, COLUMNS)
        if RELATION != 0:
            size_a_ptr, size_b_ptr = size_a_ptr + batch * n, size_b_ptr + batch * m
            size_a2_ptr, size_b2_ptr = size_a2_ptr + batch * n, size_b2_ptr + batch * m
            a2_ptr, b2_ptr = a2_ptr + batch * a2_batch, b2_ptr + batch * b2_batch
        gap, slope, close = _difference(
            a_ptr + batch * a_batch, b_ptr + batch * b_batch, a2_ptr, b2_ptr,
            size_a_ptr, size_b_ptr, size_a2_ptr, size_b2_ptr,
            row, col, n, m, own, width, width2, a_step, b_step, a_row, b_row, a2_row, b2_row, gamma, gamma_rest,
            RELATION, TINY, CLOSE, TERMS, BK, PRECISION, UPCAST, SUMS,
        )  # fmt: skip
        penalty, weight = _penalty(gap, HUBER)
        part = tl.sum(penalty).to(tl.float64) * count
        if PANEL:
            keep = (row < n)[:, None] & (col < panel_row)[None, :]
            place = (batch * n + row)[:, None] * panel_row + col[None, :]
            store_terms(panel_ptr, place, panel_step, weight * slope, keep, TERMS, UPCAST)
            if RELATION != 0:
                tl.store(close_ptr + pid, close)
    add_up(out_ptr, count_ptr, value_ptr, pid, part, tl.num_programs(0))


@triton.jit(do_not_specialize=[*COUNTS, "m"])
def edges_bwd_kernel(
    a_ptr, b_ptr, right_ptr, out_ptr, count_ptr, value_ptr, grad_ptr,
    n, m, d, width, tiles_n, a_step, b_step, right_step, right_batch, right_row, a_batch, b_batch, a_row, b_row,
    HUBER: tl.constexpr, TERMS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Value and gradient of products: weights (n, m) @ right (m, d), tiles of weights made again for each chunk of d.

    A program holds a block of rows and a chunk of columns of the gradient and walks over m in a fixed order.
    """
    tile, chunk = tl.program_id(0) % tiles_n, tl.program_id(1)
    batch = (tl.program_id(0) // tiles_n).to(tl.int64)
    row, k = tile * ROWS + tl.arange(0, ROWS), chunk * BD + tl.arange(0, BD)
    a_ptr, b_ptr, right_ptr = a_ptr + batch * a_batch, b_ptr + batch * b_batch, right_ptr + batch * right_batch
    right_step = tl.cast(right_step, tl.int64)  # twice as much may pass 2**31
    total = tl.zeros([ROWS, BD], SUMS)
    value = tl.zeros([ROWS], tl.float64)
    for start in range(0, m, COLUMNS):
        col = start + tl.arange(0, COLUMNS)
        gap = row_products(
            a_ptr, b_ptr, row, col, n, m, width, a_step, b_step, a_row, b_row, TERMS, BK, PRECISION, UPCAST, SUMS
        )
        penalty, weight = _penalty(gap, HUBER)
        value += tl.sum(penalty, 1).to(tl.float64)
        total = split_dot(weight, right_ptr, col, k, m, d, right_step, right_row, total, TERMS, PRECISION, UPCAST)
    place = (batch * n + row)[:, None] * d + k[None, :]
    tl.store(grad_ptr + place, total, mask=(row < n)[:, None] & (k < d)[None, :])
    if chunk == 0:
        add_up(out_ptr, count_ptr, value_ptr, tl.program_id(0), tl.sum(value), tl.num_programs(0))


@triton.jit(do_not_specialize=COUNTS)
def pull_kernel(
    w_ptr, close_ptr, a_ptr, b_ptr, out_ptr, n, m, d, tiles_n, tiles_m, w_batch, w_row, a_batch, b_batch, a_row, b_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Sums of weight_ij (a_i - b_j) over j to out (b, n, d), from a panel of weights.

    ``close`` (b, tiles_n, tiles_m): how many pairs of each tile of ROWS x ROWS weights are. Such a tile is summed by
    differences, the others are (row sums of the weights) * a - weights @ b.
    """
    tile, chunk = tl.program_id(0) % tiles_n, tl.program_id(1)
    batch = (tl.program_id(0) // tiles_n).to(tl.int64)
    row, k = tile * ROWS + tl.arange(0, ROWS), chunk * COLUMNS + tl.arange(0, COLUMNS)
    close_ptr += tl.program_id(0).to(tl.int64) * tiles_m
    w_ptr, a_ptr, b_ptr = w_ptr + batch * w_batch, a_ptr + batch * a_batch, b_ptr + batch * b_batch
    total = tl.zeros([ROWS, COLUMNS], SUMS)
    sums = tl.zeros([ROWS], SUMS)
    for start in range(0, m, BK):
        col = start + tl.arange(0, BK)
        close = tl.load(close_ptr + start // ROWS)
        weight = tl.where(close > 0, 0.0, load(w_ptr, row, col, n, m, w_row))
        sums += tl.sum(weight, 1)
        total = dot(weight, load(b_ptr, col, k, m, d, b_row), total, PRECISION, UPCAST)
    total = sums[:, None] * load(a_ptr, row, k, n, d, a_row) - total
    for j in range(tiles_m):
        if tl.load(close_ptr + j) > 0:
            col = j * ROWS + tl.arange(0, ROWS)
            weight = load(w_ptr, row, col, n, m, w_row)
            total += pull(weight, a_ptr + d, b_ptr + d, row, col, n, m, chunk * COLUMNS, d, a_row, b_row, COLUMNS, SUMS)
    place = (batch * n + row)[:, None] * d + k[None, :]
    tl.store(out_ptr + place, total, mask=(row < n)[:, None] & (k < d)[None, :])


@triton.jit(do_not_specialize=COUNTS)
def sizes_kernel(
    x_ptr, out_ptr, n, width, tiles, x_batch, x_row,
    ROWS: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Squared sizes of the rows, from the same product as the tiles, so that equal rows are at distance exactly 0."""
    batch, row = block_of(tiles, ROWS)
    base = x_ptr + batch * x_batch
    own = products(base, base, row, row, n, n, width, x_row, x_row, BK, PRECISION, UPCAST, SUMS)
    here = tl.arange(0, ROWS)
    size = tl.sum(tl.where(here[:, None] == here[None, :], own, 0.0), 1)
    tl.store(out_ptr + batch * n + row, size, mask=row < n)


@dataclass(frozen=True)
class Operands:
    """Of one relation: rows a (terms, b, n, k), b (terms, b, m, k); for distances squared sizes (b, n), (b, m).

    Distances: rows are centred, and stand before the rows themselves in the same memory (:func:`centred`).
    """

    a: Tensor
    b: Tensor
    size_a: Tensor | None = None
    size_b: Tensor | None = None
    gamma: float = 1.0
    count: Tensor | None = None

    def part(self, rows: slice) -> "Operands":
        """The same with some of the rows."""
        size = None if self.size_a is None else self.size_a[:, rows].contiguous()
        return replace(self, a=self.a[:, :, rows], size_a=size)

    def turned(self) -> "Operands":
        """The same edges seen from the other end."""
        return replace(self, a=self.b, b=self.a, size_a=self.size_b, size_b=self.size_a)


@dataclass(frozen=True)
class Difference:
    """A penalty of the difference of two relations of the same nodes, summed over all entries.

    Args:
        first: operands, of the difference itself for products. second: for distances, of what is subtracted.
        own: for distances, the column of row 0 itself; negative for other nodes.
    """

    first: Operands
    second: Operands | None
    relation: str
    penalty: str
    math: Math
    own: int = OTHERS

    def part(self, rows: slice) -> "Difference":
        """The same with some of the rows."""
        second = None if self.second is None else self.second.part(rows)
        return replace(self, first=self.first.part(rows), second=second, own=self.own + rows.start)

    def value(
        self, symmetric: bool = False, panel: bool = False, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Sum of the penalties (), and with a panel the weights (terms, b, n, m, padded).

        For distances, with a panel, also how many pairs of each tile are close (b, tiles, tiles).

        Args:
            symmetric: both node sets are the same, so half the tiles suffice (without a panel).
            dtype: of the sum, by default that of the products' sums.
        """
        (_, b, n, width), m, device = self.first.a.shape, self.first.b.shape[2], self.first.a.device
        config = pick("edges" if self.second is None else "distances", self.math, device, b * n * m)
        square = symmetric and not panel and config.rows == config.columns
        tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
        per_batch = triangle(tiles_n) if square else tiles_n * tiles_m
        out, value = empty((b * per_batch,), torch.float64, device), empty((), dtype or self.math.sums, device)
        weights = empty((self.math.terms, b, n, padded(m)), self.math.storage, device) if panel else None
        close = empty((b, tiles_n, tiles_m), torch.int32, device) if panel and self.second else None
        first, second, other = self.first, self.second, self.second or self.first
        launch(
            edges_fwd_kernel, (b * per_batch,), config, self.math, a_ptr=first.a, b_ptr=first.b,
            a2_ptr=second.a if second else None, b2_ptr=second.b if second else None,
            size_a_ptr=first.size_a, size_b_ptr=first.size_b, size_a2_ptr=second.size_a if second else None,
            size_b2_ptr=second.size_b if second else None, out_ptr=out, count_ptr=first.count, value_ptr=value,
            panel_ptr=weights, close_ptr=close, n=n, m=m, own=self.own, width=width, width2=other.a.shape[3],
            tiles_n=tiles_n, tiles_m=tiles_m, per_batch=per_batch, panel_row=padded(m),
            panel_step=0 if weights is None else weights.stride(0), a_step=first.a.stride(0), b_step=first.b.stride(0),
            a_batch=first.a.stride(1), b_batch=first.b.stride(1), a2_batch=other.a.stride(1),
            b2_batch=other.b.stride(1), a_row=first.a.stride(2), b_row=first.b.stride(2), a2_row=other.a.stride(2),
            b2_row=other.b.stride(2), **split("gamma", first.gamma), RELATION=RELATIONS[self.relation],
            HUBER=self.penalty == "huber", SYMMETRIC=square, PANEL=panel, TINY=self.math.tiny,
            CLOSE=self.math.close,
        )  # fmt: skip
        if not len(out):  # no launch
            value.zero_()
        return value, weights, close

    def gradient(self, right: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the penalties (), and its gradient (b, n, d) in the rows of products.

        ``right``: the other end of the edges, (terms, b, m, d).
        """
        (_, b, n, width), (m, d) = self.first.a.shape, right.shape[2:]
        config = pick("edges_bwd", self.math, right.device)
        block = power(d, config.chunk)
        tiles_n, chunks = triton.cdiv(n, config.rows), triton.cdiv(d, block)
        out, value = empty((b * tiles_n,), torch.float64, right.device), empty((), self.math.sums, right.device)
        grad = empty((b, n, d), self.math.sums, right.device)
        a, other = self.first.a, self.first.b
        launch(
            edges_bwd_kernel, (b * tiles_n, chunks), config, self.math, a_ptr=a, b_ptr=other, right_ptr=right,
            out_ptr=out, count_ptr=self.first.count, value_ptr=value, grad_ptr=grad, n=n, m=m, d=d, width=width,
            tiles_n=tiles_n, a_step=a.stride(0), b_step=other.stride(0), right_step=right.stride(0),
            right_batch=right.stride(1), right_row=right.stride(2), a_batch=a.stride(1), b_batch=other.stride(1),
            a_row=a.stride(2), b_row=other.stride(2), HUBER=self.penalty == "huber", BD=block,
        )  # fmt: skip
        if not len(out):
            value.zero_()
        return value, grad


def walk(difference: Difference, right: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient from tiles; ``right``: the other end of the edges, for distances ``first.b``.

    Distances, and products of wide rows, for which making each tile again for every chunk of columns would cost more
    than writing it, go by panels of rows: weights (rows, m), then one product. A panel is twice as large as the
    operands at most, or has 2**23 weights.
    """
    (d, math), apart = (right.shape[3], difference.math), difference.second is not None
    if not apart and d <= 2 * pick("edges_bwd", math, right.device).chunk:
        return difference.gradient(right)
    n, m = difference.first.a.shape[2], right.shape[2]
    rows = max(256, min(n, max(2 * d * max(n, m), PANEL) // max(m, 1)))
    sums = math.sums if rows >= n else torch.float64
    values, grads = [], []
    for start in range(0, n, rows):
        part = difference.part(slice(start, start + rows))
        value, weights, close = part.value(panel=True, dtype=sums)
        assert weights is not None
        if close is None:
            grads.append(product(weights[..., :m], right, math))
        else:
            grads.append(pulled(weights[0], close, part.first.a[0], right[0], math))
        values.append(value)
    if len(grads) == 1:
        return values[0], grads[0]
    return torch.stack(values).sum().to(math.sums), torch.cat(grads, 1)


def pulled(weights: Tensor, close: Tensor, a: Tensor, b: Tensor, math: Math) -> Tensor:
    """The sums of w_ij (a_i - b_j) over j, which keep their digits where pairs are close.

    Shapes: weights (b, n, >= m) with columns of stride 1; close (b, tiles, tiles), as :meth:`Difference.value` has it;
    a (b, n, d) and b (b, m, d) as :func:`centred` has them in their only term -> (b, n, d).
    """
    (graphs, n, d), m, config = a.shape, b.shape[1], pick("pull", math, a.device)
    out = empty((graphs, n, d), math.sums, a.device)
    launch(
        pull_kernel, (graphs * close.shape[1], triton.cdiv(d, config.columns)), config, math, w_ptr=weights,
        close_ptr=close, a_ptr=a, b_ptr=b, out_ptr=out, n=n, m=m, d=d, tiles_n=close.shape[1], tiles_m=close.shape[2],
        w_batch=weights.stride(0), w_row=weights.stride(1), a_batch=a.stride(0), b_batch=b.stride(0),
        a_row=a.stride(1), b_row=b.stride(1),
    )  # fmt: skip
    return out


def centred(x: Tensor, y: Tensor | None, gamma: float, math: Math) -> Operands:
    """Operands of distances, which do not change when both sets (b, n, d) are shifted; y ``None`` for x itself."""
    shift = (x if y is None else y).mean(dim=1, dtype=math.sums)
    width = padded(x.shape[2])
    rows = normalise(x, x, "shift", math, shift=shift)
    a = rows.z[..., :width]
    b = a if y is None else normalise(y, y, "shift", math, shift=shift).z[..., :width]
    size = sizes(a[0], math)
    return Operands(a, b, size, size if y is None else sizes(b[0], math), gamma, rows.count)


def split(name: str, value: float) -> dict[str, float]:
    """A number as two float32 arguments, so that float64 kernels lose nothing."""
    high = float(np.float32(value))
    return {name: high, f"{name}_rest": value - high}


def sizes(x: Tensor, math: Math) -> Tensor:
    """Squared sizes (b, n) of rows (b, n, k), as the products of the tiles have them."""
    (b, n, k), config = x.shape, pick("distances", math, x.device)
    tiles = triton.cdiv(n, config.rows)
    out = empty((b, n), math.sums, x.device)
    launch(
        sizes_kernel, (b * tiles,), config, math, x_ptr=x, out_ptr=out, n=n, width=k, tiles=tiles, x_batch=x.stride(0),
        x_row=x.stride(1),
    )  # fmt: skip
    return out
