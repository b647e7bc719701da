"""Rows as products want them: pairs of them as sum and difference, and back.

``rows_fwd_kernel`` reads the rows of one or two matrices once per pass and writes what products want, contiguous and
rounded once: the rows, or [U V U] with U = (S + T) / sqrt(2), V = (S - T) / sqrt(2). Derivations: kernels/README.md.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton import interpreting
from graphkd_kernels._triton.configs import map_tile, math
from graphkd_kernels._triton.launch import Math, empty, launch
from graphkd_kernels._triton.tiles import COUNTS, block_of, narrow

KINDS = {"gram": 0, "cosine": 1, "pearson": 2, "shift": 3}
"""Relations that are inner products of mapped rows, and ``"shift"``: less the same for all rows."""


@triton.jit
def _load(x_ptr, base, step, start, d, row_ok, COLUMNS: tl.constexpr, SUMS: tl.constexpr):
    """Columns start.. of some rows, and which of them exist."""
    col = start + tl.arange(0, COLUMNS)
    keep = row_ok[:, None] & (col < d)[None, :]
    x = tl.load(x_ptr + base[:, None] + col.to(tl.int64)[None, :] * step, mask=keep, other=0.0)
    return x.to(SUMS), keep


@triton.jit
def _statistics(
    x_ptr, base, step, d, row_ok, KIND: tl.constexpr, TINY: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr
):
    """What is subtracted from each row, and what it is then multiplied by: 0 for a dead row."""
    total = tl.zeros(base.shape, SUMS)
    if KIND == 2:
        for start in range(0, d, COLUMNS):
            x, _ = _load(x_ptr, base, step, start, d, row_ok, COLUMNS, SUMS)
            total += tl.sum(x, 1)
    mean = total / d
    size = tl.zeros(base.shape, SUMS)
    square = tl.zeros(base.shape, SUMS)
    for start in range(0, d, COLUMNS):
        x, keep = _load(x_ptr, base, step, start, d, row_ok, COLUMNS, SUMS)
        size += tl.sum(x * x, 1)
        c = tl.where(keep, x - mean[:, None], 0.0)  # masked again: padding is no longer 0 after centring
        square += tl.sum(c * c, 1)
    length = tl.sqrt(square)
    dead = length <= TINY * tl.sqrt(size)  # a NaN is not, and passes
    return mean, tl.where(dead, 0.0, 1.0 / tl.where(dead, 1.0, length))


@triton.jit
def _mapped(
    x_ptr, shift_ptr, base, step, start, d, row_ok, mean, scale,
    KIND: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Columns start.. of the mapped rows; 0 beyond d."""
    x, keep = _load(x_ptr, base, step, start, d, row_ok, COLUMNS, SUMS)
    if KIND == 3:
        col = start + tl.arange(0, COLUMNS)
        x -= tl.load(shift_ptr + col, mask=col < d, other=0.0).to(SUMS)[None, :]
    elif KIND > 0:
        x = (x - mean[:, None]) * scale[:, None]
    return tl.where(keep, x, 0.0)


@triton.jit(do_not_specialize=COUNTS)
def rows_fwd_kernel(
    x_ptr, t_ptr, z_ptr, shift_ptr, mean_x_ptr, scale_x_ptr, mean_t_ptr, scale_t_ptr,
    n, dx, dt, padded_x, padded_t, tiles, width,
    x_batch, x_row, x_col, t_batch, t_row, t_col, sign,
    KIND: tl.constexpr, UV: tl.constexpr, PAIR: tl.constexpr, TINY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Mapped rows of x (b, n, dx), and of t (b, n, dt) where PAIR, to z (b, n, width), each padded with columns of 0.

    z is [x], [x, sign * t], or where UV [u v u] or [u v], as its width allows.
    """
    batch, row = block_of(tiles, ROWS)
    row_ok = row < n
    row = row.to(tl.int64)  # n * width may pass 2**31
    place = batch * n + row
    base_x = batch * x_batch + row * x_row
    mean_x, scale_x = tl.zeros([ROWS], SUMS), tl.full([ROWS], 1.0, SUMS)
    mean_t, scale_t = mean_x, scale_x
    if KIND == 1 or KIND == 2:
        mean_x, scale_x = _statistics(x_ptr, base_x, x_col, dx, row_ok, KIND, TINY, COLUMNS, SUMS)
        tl.store(mean_x_ptr + place, mean_x, mask=row_ok)
        tl.store(scale_x_ptr + place, scale_x, mask=row_ok)
    base_t = base_x
    if PAIR:
        base_t = batch * t_batch + row * t_row
        if KIND == 1 or KIND == 2:
            mean_t, scale_t = _statistics(t_ptr, base_t, t_col, dt, row_ok, KIND, TINY, COLUMNS, SUMS)
            tl.store(mean_t_ptr + place, mean_t, mask=row_ok)
            tl.store(scale_t_ptr + place, scale_t, mask=row_ok)
    z_row = z_ptr + (place * width)[:, None]
    kind = z_ptr.dtype.element_ty
    shift_ptr += batch * dx
    for start in range(0, padded_x, COLUMNS):
        col = start + tl.arange(0, COLUMNS)[None, :]
        keep = row_ok[:, None] & (col < padded_x)
        x = _mapped(x_ptr, shift_ptr, base_x, x_col, start, dx, row_ok, mean_x, scale_x, KIND, COLUMNS, SUMS)
        if UV:
            t = _mapped(t_ptr, shift_ptr, base_t, t_col, start, dx, row_ok, mean_t, scale_t, KIND, COLUMNS, SUMS)
            u = narrow((x + t) * 0.7071067811865476, kind, UPCAST)
            v = narrow((x - t) * 0.7071067811865476, kind, UPCAST)
            tl.store(z_row + col, u, mask=keep)
            tl.store(z_row + padded_x + col, v, mask=keep)
            if width > 2 * padded_x:
                tl.store(z_row + 2 * padded_x + col, u, mask=keep)
        else:
            tl.store(z_row + col, narrow(x, kind, UPCAST), mask=keep)
    if PAIR and not UV:
        for start in range(0, padded_t, COLUMNS):
            col = start + tl.arange(0, COLUMNS)[None, :]
            kind_t: tl.constexpr = 0 if KIND == 3 else KIND
            t = _mapped(t_ptr, shift_ptr, base_t, t_col, start, dt, row_ok, mean_t, scale_t, kind_t, COLUMNS, SUMS)
            keep = row_ok[:, None] & (col < padded_t)
            tl.store(z_row + padded_x + col, narrow(t * sign, kind, UPCAST), mask=keep)


@triton.jit(do_not_specialize=COUNTS)
def rows_bwd_kernel(
    g_ptr, x_ptr, mean_ptr, scale_ptr, out_ptr,
    n, d, tiles, g_batch, g_row, x_batch, x_row, x_col,
    CENTER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Gradient g (b, n, d) of the scaled rows to out (b, n, d), that of x: (g - y <g, y> - mean g) / |c|."""
    batch, row = block_of(tiles, ROWS)
    row_ok = row < n
    row = row.to(tl.int64)
    place = batch * n + row
    mean = tl.load(mean_ptr + place, mask=row_ok, other=0.0)
    scale = tl.load(scale_ptr + place, mask=row_ok, other=0.0)
    base_g, base_x = batch * g_batch + row * g_row, batch * x_batch + row * x_row
    along, total = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, d, COLUMNS):
        g, keep = _load(g_ptr, base_g, 1, start, d, row_ok, COLUMNS, SUMS)
        x, _ = _load(x_ptr, base_x, x_col, start, d, row_ok, COLUMNS, SUMS)
        along += tl.sum(g * tl.where(keep, (x - mean[:, None]) * scale[:, None], 0.0), 1)
        total += tl.sum(g, 1)
    shift = total / d if CENTER else tl.zeros([ROWS], SUMS)
    for start in range(0, d, COLUMNS):
        col = start + tl.arange(0, COLUMNS)[None, :]
        g, keep = _load(g_ptr, base_g, 1, start, d, row_ok, COLUMNS, SUMS)
        x, _ = _load(x_ptr, base_x, x_col, start, d, row_ok, COLUMNS, SUMS)
        y = (x - mean[:, None]) * scale[:, None]
        g = (g - y * along[:, None] - shift[:, None]) * scale[:, None]
        tl.store(out_ptr + (place * d)[:, None] + col, narrow(g, out_ptr.dtype.element_ty, UPCAST), mask=keep)


@dataclass(frozen=True)
class Rows:
    """Mapped rows as products want them, z (b, n, width); of student and teacher, the mean and scale (b, n)."""

    z: Tensor
    statistics: tuple[tuple[Tensor | None, Tensor | None], tuple[Tensor | None, Tensor | None]]


def padded(d: int) -> int:
    """Widths are made multiples of 16 by columns of 0, so that every row is aligned (49 or 196 positions are not)."""
    return -(-d // 16) * 16


def normalise(
    x: Tensor, t: Tensor | None, kind: str, math: Math, layout: str = "", sign: float = 1.0, shift: Tensor | None = None
) -> Rows:
    """Rows of x (b, n, dx), and of t (b, n, dt), any strides, mapped.

    Args:
        kind: ``"gram"`` (as they are), ``"cosine"``, ``"pearson"``, or ``"shift"``: x less ``shift`` (b, dx),
            contiguous, and t as it is.
        layout: of z: ``"uvu"`` and ``"uv"`` need equal widths; otherwise x beside sign * t.
    """
    (b, n, dx), dt = x.shape, 0 if t is None else t.shape[2]
    width = len(layout) * padded(dx) if layout else padded(dx) + padded(dt)

    def statistic(there: Tensor | None) -> Tensor | None:
        return None if there is None or kind not in ("cosine", "pearson") else empty((b, n), math.sums, x.device)

    of_x, of_t = (statistic(x), statistic(x)), (statistic(t), statistic(t))
    z, config, other = empty((b, n, width), math.storage, x.device), map_tile(max(dx, dt), math.sums, x.device), t
    if other is None:
        other = x
    tiles = triton.cdiv(n, config.rows)
    launch(
        rows_fwd_kernel, (b * tiles,), config, math, x_ptr=x, t_ptr=other, z_ptr=z,
        shift_ptr=x if shift is None else shift, mean_x_ptr=of_x[0], scale_x_ptr=of_x[1], mean_t_ptr=of_t[0],
        scale_t_ptr=of_t[1], n=n, dx=dx, dt=dt, padded_x=padded(dx), padded_t=padded(dt), tiles=tiles, width=width,
        x_batch=x.stride(0), x_row=x.stride(1), x_col=x.stride(2), t_batch=other.stride(0), t_row=other.stride(1),
        t_col=other.stride(2), sign=sign, KIND=KINDS[kind], UV=bool(layout), PAIR=t is not None,
        # A centred row this short, relative to the row itself, is constant up to rounding.
        TINY=4 * torch.finfo(math.sums).eps if kind == "pearson" else 0.0,
    )  # fmt: skip
    return Rows(z, (of_x, of_t))


def normalise_backward(
    g: Tensor, x: Tensor, statistics: tuple[Tensor | None, Tensor | None], kind: str, dtype: torch.dtype
) -> Tensor:
    """Gradient of x (b, n, d), contiguous, from that of its mapped rows (b, n, >= d).

    Args:
        dtype: of the result. Not 16 bits before the upstream gradient: that of a sum overflows.
    """
    (b, n, d), (mean, scale) = x.shape, statistics
    if scale is None:
        return g[..., :d].to(dtype, memory_format=torch.contiguous_format)
    config, out = map_tile(d, g.dtype, x.device), empty((b, n, d), dtype, x.device)
    tiles = triton.cdiv(n, config.rows)
    launch(
        rows_bwd_kernel, (b * tiles,), config, math(g.dtype), g_ptr=g, x_ptr=x, mean_ptr=mean, scale_ptr=scale,
        out_ptr=out, n=n, d=d, tiles=tiles, g_batch=g.stride(0), g_row=g.stride(1), x_batch=x.stride(0),
        x_row=x.stride(1), x_col=x.stride(2), CENTER=kind == "pearson",
        UPCAST=interpreting() and dtype == torch.bfloat16,
    )  # fmt: skip
    return out
