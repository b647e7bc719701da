"""Sums over all entries of a difference of two relations, and their gradient, tile by tile: no matrix of edges exists.

Products (gram, and cosine and Pearson after ``rows``): E = A B' with A = [U V], B = [V U].
Distances: two products, one for each side, and the squared sizes of the rows. Derivations: kernels/README.md.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton.configs import pick, power
from graphkd_kernels._triton.grams import product
from graphkd_kernels._triton.launch import Math, empty, launch
from graphkd_kernels._triton.rows import padded
from graphkd_kernels._triton.tiles import (
    COUNTS,
    block_of,
    dot,
    huber_slope,
    load,
    narrow,
    products,
    triangle,
    upper_tile,
)

RELATIONS = {"product": 0, "euclidean": 1, "squared_euclidean": 2, "rbf": 3}


@triton.jit
def relate(product, size_row, size_col, gamma, gamma_rest, RELATION: tl.constexpr, TINY: tl.constexpr):
    """A relation from inner products, and its derivative divided by x_i - y_j (by -y_j itself for the product)."""
    if RELATION == 0:
        value, slope = product, product * 0.0 + 1.0
    else:
        sizes = size_row[:, None] + size_col[None, :]
        square = sizes - 2.0 * product
        near = square <= TINY * sizes  # within rounding: 0, without gradient; a NaN is not, and passes
        square = tl.where(near, 0.0, square)
        if RELATION == 1:
            value = tl.sqrt(square)
            slope = tl.where(near, 0.0, 1.0 / tl.where(near, 1.0, value))
        elif RELATION == 2:
            value, slope = square, tl.where(near, 0.0, 2.0)
        else:
            # A float argument is float32: what that lost comes separately.
            rate = tl.zeros([1, 1], product.dtype) + gamma + gamma_rest
            value = tl.exp(-rate * square)
            slope = tl.where(near, 0.0, -2.0 * rate * value)
    return value, slope


@triton.jit
def _difference(
    a_ptr, b_ptr, a2_ptr, b2_ptr, size_a_ptr, size_b_ptr, size_a2_ptr, size_b2_ptr,
    row, col, n, m, width, width2, a_row, b_row, a2_row, b2_row, gamma, gamma_rest,
    RELATION: tl.constexpr, HUBER: tl.constexpr, TINY: tl.constexpr,
    BK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Penalties of a tile of differences, and their derivative times the slope of the first relation; 0 outside."""
    value = products(a_ptr, b_ptr, row, col, n, m, width, a_row, b_row, BK, PRECISION, UPCAST, SUMS)
    inside = (row < n)[:, None] & (col < m)[None, :]
    if RELATION == 0:
        slope = value * 0.0 + 1.0
    else:
        size_a = tl.load(size_a_ptr + row, mask=row < n, other=0.0)
        size_b = tl.load(size_b_ptr + col, mask=col < m, other=0.0)
        value, slope = relate(value, size_a, size_b, gamma, gamma_rest, RELATION, TINY)
        other = products(a2_ptr, b2_ptr, row, col, n, m, width2, a2_row, b2_row, BK, PRECISION, UPCAST, SUMS)
        size_a = tl.load(size_a2_ptr + row, mask=row < n, other=0.0)
        size_b = tl.load(size_b2_ptr + col, mask=col < m, other=0.0)
        other, _ = relate(other, size_a, size_b, gamma, gamma_rest, RELATION, TINY)
        value -= other
    if HUBER:
        size = tl.abs(value)
        penalty, weight = tl.where(size < 1.0, 0.5 * value * value, size - 0.5), huber_slope(value)
    else:
        penalty, weight = value * value, 2.0 * value
    return tl.where(inside, penalty, 0.0), tl.where(inside, weight * slope, 0.0)


@triton.jit(do_not_specialize=[*COUNTS, "m"])
def edges_fwd_kernel(
    a_ptr, b_ptr, a2_ptr, b2_ptr, size_a_ptr, size_b_ptr, size_a2_ptr, size_b2_ptr, out_ptr, panel_ptr,
    n, m, width, width2, tiles_n, tiles_m, per_batch, panel_row,
    a_batch, b_batch, a2_batch, b2_batch, a_row, b_row, a2_row, b2_row, gamma, gamma_rest,
    RELATION: tl.constexpr, HUBER: tl.constexpr, SYMMETRIC: tl.constexpr, PANEL: tl.constexpr,
    TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """One partial sum of penalties for each tile; where PANEL the tile of weights goes to panel (b, n, panel_row).

    SYMMETRIC: tiles above the diagonal count twice, those below are not made (``tiles.upper_tile``).
    """
    pid = tl.program_id(0)
    batch, index = (pid // per_batch).to(tl.int64), pid % per_batch
    fresh, count = True, 1.0
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
        penalty, weight = _difference(
            a_ptr + batch * a_batch, b_ptr + batch * b_batch, a2_ptr, b2_ptr,
            size_a_ptr, size_b_ptr, size_a2_ptr, size_b2_ptr,
            row, col, n, m, width, width2, a_row, b_row, a2_row, b2_row, gamma, gamma_rest,
            RELATION, HUBER, TINY, BK, PRECISION, UPCAST, SUMS,
        )  # fmt: skip
        tl.store(out_ptr + pid, tl.sum(penalty).to(tl.float64) * count)
        if PANEL:
            keep = (row < n)[:, None] & (col < panel_row)[None, :]
            place = (batch * n + row)[:, None] * panel_row + col[None, :]
            tl.store(panel_ptr + place, narrow(weight, panel_ptr.dtype.element_ty, UPCAST), mask=keep)
    else:
        tl.store(out_ptr + pid, 0.0)


@triton.jit(do_not_specialize=[*COUNTS, "m"])
def edges_bwd_kernel(
    a_ptr, b_ptr, a2_ptr, b2_ptr, size_a_ptr, size_b_ptr, size_a2_ptr, size_b2_ptr,
    right_ptr, left_ptr, out_ptr, grad_ptr,
    n, m, d, width, width2, tiles_n, right_batch, right_row,
    a_batch, b_batch, a2_batch, b2_batch, a_row, b_row, a2_row, b2_row, gamma, gamma_rest, factor,
    RELATION: tl.constexpr, HUBER: tl.constexpr, TINY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Value and gradient together: weights (n, m) @ right (m, d), the tiles of weights made again for each chunk of d.

    A program holds a block of rows and a chunk of columns of the gradient and walks over m in a fixed order. For
    distances the gradient is (row sums of the weights) * left - weights @ right.
    """
    tile, chunk = tl.program_id(0) % tiles_n, tl.program_id(1)
    batch = (tl.program_id(0) // tiles_n).to(tl.int64)
    row, k = tile * ROWS + tl.arange(0, ROWS), chunk * BD + tl.arange(0, BD)
    if RELATION != 0:
        size_a_ptr, size_b_ptr = size_a_ptr + batch * n, size_b_ptr + batch * m
        size_a2_ptr, size_b2_ptr = size_a2_ptr + batch * n, size_b2_ptr + batch * m
        a2_ptr, b2_ptr = a2_ptr + batch * a2_batch, b2_ptr + batch * b2_batch
    a_ptr, b_ptr, right_ptr = a_ptr + batch * a_batch, b_ptr + batch * b_batch, right_ptr + batch * right_batch
    total = tl.zeros([ROWS, BD], SUMS)
    sums = tl.zeros([ROWS], SUMS)
    value = tl.zeros([ROWS], tl.float64)
    for start in range(0, m, COLUMNS):
        col = start + tl.arange(0, COLUMNS)
        penalty, weight = _difference(
            a_ptr, b_ptr, a2_ptr, b2_ptr, size_a_ptr, size_b_ptr, size_a2_ptr, size_b2_ptr,
            row, col, n, m, width, width2, a_row, b_row, a2_row, b2_row, gamma, gamma_rest,
            RELATION, HUBER, TINY, BK, PRECISION, UPCAST, SUMS,
        )  # fmt: skip
        value += tl.sum(penalty, 1).to(tl.float64)
        if RELATION != 0:
            sums += tl.sum(weight, 1)
        weight = narrow(weight, right_ptr.dtype.element_ty, UPCAST)
        total = dot(weight, load(right_ptr, col, k, m, d, right_row), total, PRECISION, UPCAST)
    keep = (row < n)[:, None] & (k < d)[None, :]
    place = (batch * n + row)[:, None] * d + k[None, :]
    if RELATION != 0:
        total = sums[:, None] * tl.load(left_ptr + place, mask=keep, other=0.0).to(SUMS) - total
    tl.store(grad_ptr + place, total * factor, mask=keep)
    if chunk == 0:
        tl.store(out_ptr + tl.program_id(0), tl.sum(value))


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
    """Of one relation: rows a (b, n, k), b (b, m, k), and for distances their squared sizes (b, n), (b, m)."""

    a: Tensor
    b: Tensor
    size_a: Tensor | None = None
    size_b: Tensor | None = None
    gamma: float = 1.0

    def part(self, rows: slice) -> "Operands":
        """The same with some of the rows."""
        size = None if self.size_a is None else self.size_a[:, rows].contiguous()
        return Operands(self.a[:, rows], self.b, size, self.size_b, self.gamma)

    def turned(self) -> "Operands":
        """The same edges seen from the other end."""
        return Operands(self.b, self.a, self.size_b, self.size_a, self.gamma)


@dataclass(frozen=True)
class Difference:
    """A penalty of the difference of two relations of the same nodes, summed over all entries.

    Args:
        first: operands, of the difference itself for products. second: for distances, of what is subtracted.
    """

    first: Operands
    second: Operands | None
    relation: str
    penalty: str
    math: Math

    def part(self, rows: slice) -> "Difference":
        """The same with some of the rows."""
        second = None if self.second is None else self.second.part(rows)
        return Difference(self.first.part(rows), second, self.relation, self.penalty, self.math)

    def arguments(self) -> dict[str, Any]:
        """What the forward and the backward kernel take alike."""
        first, second, other = self.first, self.second, self.second or self.first
        return {
            "a_ptr": first.a, "b_ptr": first.b,
            "a2_ptr": second.a if second else None, "b2_ptr": second.b if second else None,
            "size_a_ptr": first.size_a, "size_b_ptr": first.size_b,
            "size_a2_ptr": second.size_a if second else None, "size_b2_ptr": second.size_b if second else None,
            "n": first.a.shape[1], "m": first.b.shape[1], "width": first.a.shape[2], "width2": other.a.shape[2],
            "a_batch": first.a.stride(0), "b_batch": first.b.stride(0),
            "a2_batch": other.a.stride(0), "b2_batch": other.b.stride(0),
            "a_row": first.a.stride(1), "b_row": first.b.stride(1),
            "a2_row": other.a.stride(1), "b2_row": other.b.stride(1),
            "RELATION": RELATIONS[self.relation], "HUBER": self.penalty == "huber",
            "TINY": self.math.tiny,
        } | split("gamma", first.gamma)  # fmt: skip

    def value(self, symmetric: bool = False, panel: torch.dtype | None = None) -> tuple[Tensor, Tensor | None]:
        """Sum of the penalties () in float64, and the weights (b, n, m, padded) in the dtype ``panel`` if one is given.

        ``symmetric``: both node sets are the same, so half the tiles suffice (without a panel).
        """
        (b, n, _), m, device = self.first.a.shape, self.first.b.shape[1], self.first.a.device
        config = pick("edges", self.math, device)
        square = symmetric and panel is None and config.rows == config.columns
        tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
        per_batch = triangle(tiles_n) if square else tiles_n * tiles_m
        out = empty((b * per_batch,), torch.float64, device)
        weights = None if panel is None else empty((b, n, padded(m)), panel, device)
        launch(
            edges_fwd_kernel, (b * per_batch,), config, self.math, **self.arguments(), out_ptr=out, panel_ptr=weights,
            tiles_n=tiles_n, tiles_m=tiles_m, per_batch=per_batch, panel_row=padded(m), SYMMETRIC=square,
            PANEL=panel is not None,
        )  # fmt: skip
        return out.sum(), weights

    def gradient(self, right: Tensor, left: Tensor | None, factor: float) -> tuple[Tensor, Tensor]:
        """Sum of the penalties () in float64, and factor * its gradient (b, n, d) in the first relation's rows.

        Args:
            right: the other end of the edges, (b, m, d). left: (b, n, d), contiguous; for distances.
        """
        (b, n, _), (m, d) = self.first.a.shape, right.shape[1:]
        config = pick("edges_bwd", self.math, right.device)
        block = power(d, config.chunk)
        tiles_n, chunks = triton.cdiv(n, config.rows), triton.cdiv(d, block)
        out = empty((b * tiles_n,), torch.float64, right.device)
        grad = empty((b, n, d), self.math.sums, right.device)
        launch(
            edges_bwd_kernel, (b * tiles_n, chunks), config, self.math, **self.arguments() | {"m": m}, d=d,
            right_ptr=right, left_ptr=left, out_ptr=out, grad_ptr=grad, tiles_n=tiles_n, right_batch=right.stride(0),
            right_row=right.stride(1), factor=factor, BD=block,
        )  # fmt: skip
        return out.sum(), grad


def walk(
    difference: Difference, right: Tensor, left: Tensor | None = None, factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Value and gradient from tiles; ``right``, ``left`` and ``factor`` as of :meth:`Difference.gradient`.

    Wide rows, for which making each tile again for every chunk of columns would cost more than writing it, go by panels
    of rows: weights (rows, m), at most twice as large as the operands, then one product.
    """
    d, math = right.shape[2], difference.math
    if d <= 2 * pick("edges_bwd", math, right.device).chunk:
        return difference.gradient(right, left, factor)
    n, m = difference.first.a.shape[1], right.shape[1]
    rows = max(256, min(n, 2 * d * max(n, m) // m))
    values, grads = [], []
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        value, weights = difference.part(part).value(panel=math.storage)
        assert weights is not None
        g = product(weights[..., :m], right, math)
        grads.append(g if left is None else weights.sum(-1, keepdim=True, dtype=g.dtype) * left[:, part] - g)
        values.append(value)
    whole = grads[0] if len(grads) == 1 else torch.cat(grads, 1)
    return torch.stack(values).sum(), whole.mul_(factor)


def split(name: str, value: float) -> dict[str, float]:
    """A number as two float32 arguments, so that float64 kernels lose nothing."""
    high = float(np.float32(value))
    return {name: high, f"{name}_rest": value - high}


def sizes(x: Tensor, math: Math) -> Tensor:
    """Squared sizes (b, n) of rows (b, n, k), as the products of the tiles have them."""
    (b, n, k), config = x.shape, pick("edges", math, x.device)
    tiles = triton.cdiv(n, config.rows)
    out = empty((b, n), math.sums, x.device)
    launch(
        sizes_kernel, (b * tiles,), config, math, x_ptr=x, out_ptr=out, n=n, width=k, tiles=tiles, x_batch=x.stride(0),
        x_row=x.stride(1),
    )  # fmt: skip
    return out
