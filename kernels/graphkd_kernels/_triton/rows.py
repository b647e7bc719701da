"""Rows as products want them: pairs of them as sum and difference, and back.

``rows_fwd_kernel`` reads the rows of one or two matrices once per pass and writes what products want, contiguous and in
the terms of which products are made: the rows, or [U V U] with U = (S + T) / sqrt(2), V = (S - T) / sqrt(2).
Derivations: kernels/README.md.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton import interpreting
from graphkd_kernels._triton.configs import map_tile, math, padded
from graphkd_kernels._triton.launch import Math, empty, launch
from graphkd_kernels._triton.terms import store_terms
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
    x_ptr, base, step, d, end, row_ok,
    KIND: tl.constexpr, TINY: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """What is subtracted from each row, and what it is then multiplied by: 0 for a dead row."""
    total = tl.zeros(base.shape, SUMS)
    if KIND == 2:
        for start in range(0, end, COLUMNS):
            x, _ = _load(x_ptr, base, step, start, d, row_ok, COLUMNS, SUMS)
            total += tl.sum(x, 1)
    mean = total / d
    size = tl.zeros(base.shape, SUMS)
    square = tl.zeros(base.shape, SUMS)
    for start in range(0, end, COLUMNS):
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
    x_ptr, t_ptr, z_ptr, right_ptr, count_ptr, shift_ptr, stat_ptr,
    n, dx, dt, padded_x, padded_t, tiles, width,
    x_batch, x_row, x_col, t_batch, t_row, t_col, z_step, right_step, sign,
    KIND: tl.constexpr, UV: tl.constexpr, PAIR: tl.constexpr, TINY: tl.constexpr, TERMS: tl.constexpr,
    ONCE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Mapped rows of x (b, n, dx), and of t (b, n, dt) where PAIR, to z (TERMS, b, n, width), each padded with 0.

    z is [x], [x, sign * t], or where UV [u v u] or [u v], as its width allows; then right, if there, is [x]. stat
    (4, b, n) holds mean and scale of x, then of t. ONCE: COLUMNS hold a whole row, which is read once. The count is
    that of the kernels that come after (``tiles.last``).
    """
    if tl.program_id(0) == 0:
        tl.store(count_ptr, 0)
    batch, row = block_of(tiles, ROWS)
    row_ok = row < n
    row = row.to(tl.int64)  # n * width may pass 2**31
    place, step = batch * n + row, (tl.num_programs(0) // tiles).to(tl.int64) * n
    end_x, end_t, out_x, out_t = dx, dt, padded_x, padded_t
    if ONCE:  # loops that the compiler unrolls
        end_x, end_t, out_x, out_t = COLUMNS, COLUMNS, COLUMNS, COLUMNS
    base_x = batch * x_batch + row * x_row
    mean_x, scale_x = tl.zeros([ROWS], SUMS), tl.full([ROWS], 1.0, SUMS)
    mean_t, scale_t = mean_x, scale_x
    if KIND == 1 or KIND == 2:
        mean_x, scale_x = _statistics(x_ptr, base_x, x_col, dx, end_x, row_ok, KIND, TINY, COLUMNS, SUMS)
    base_t = base_x
    if PAIR:
        base_t = batch * t_batch + row * t_row
        if KIND == 1 or KIND == 2:
            mean_t, scale_t = _statistics(t_ptr, base_t, t_col, dt, end_t, row_ok, KIND, TINY, COLUMNS, SUMS)
    z_row = (place * width)[:, None]
    shift_ptr += batch * dx
    for start in range(0, out_x, COLUMNS):
        col = start + tl.arange(0, COLUMNS)[None, :]
        keep = row_ok[:, None] & (col < padded_x)
        x = _mapped(x_ptr, shift_ptr, base_x, x_col, start, dx, row_ok, mean_x, scale_x, KIND, COLUMNS, SUMS)
        if UV:
            t = _mapped(t_ptr, shift_ptr, base_t, t_col, start, dx, row_ok, mean_t, scale_t, KIND, COLUMNS, SUMS)
            u, v = (x + t) * 0.7071067811865476, (x - t) * 0.7071067811865476
            store_terms(z_ptr, z_row + col, z_step, u, keep, TERMS, UPCAST)
            store_terms(z_ptr, z_row + padded_x + col, z_step, v, keep, TERMS, UPCAST)
            if width > 2 * padded_x:
                store_terms(z_ptr, z_row + 2 * padded_x + col, z_step, u, keep, TERMS, UPCAST)
            if right_ptr is not None:
                store_terms(right_ptr, (place * padded_x)[:, None] + col, right_step, x, keep, TERMS, UPCAST)
        else:
            store_terms(z_ptr, z_row + col, z_step, x, keep, TERMS, UPCAST)
    if PAIR and not UV:
        for start in range(0, out_t, COLUMNS):
            col = start + tl.arange(0, COLUMNS)[None, :]
            kind_t: tl.constexpr = 0 if KIND == 3 else KIND
            t = _mapped(t_ptr, shift_ptr, base_t, t_col, start, dt, row_ok, mean_t, scale_t, kind_t, COLUMNS, SUMS)
            keep = row_ok[:, None] & (col < padded_t)
            store_terms(z_ptr, z_row + padded_x + col, z_step, t * sign, keep, TERMS, UPCAST)
    if KIND == 1 or KIND == 2:  # at the end: loads before and after a store are not one
        tl.store(stat_ptr + place, mean_x, mask=row_ok)
        tl.store(stat_ptr + step + place, scale_x, mask=row_ok)
        if PAIR:
            tl.store(stat_ptr + 2 * step + place, mean_t, mask=row_ok)
            tl.store(stat_ptr + 3 * step + place, scale_t, mask=row_ok)


@triton.jit
def _upstream(g_ptr, h_ptr, base, start, d, row_ok, up_g, up_h, COLUMNS: tl.constexpr, SUMS: tl.constexpr):
    """Columns start.. of the gradient of some mapped rows, in terms of the loss."""
    g, keep = _load(g_ptr, base, 1, start, d, row_ok, COLUMNS, SUMS)
    g *= up_g
    if h_ptr is not None:
        h, _ = _load(h_ptr, base, 1, start, d, row_ok, COLUMNS, SUMS)
        g += h * up_h
    return g, keep


@triton.jit(do_not_specialize=COUNTS)
def rows_bwd_kernel(
    g_ptr, h_ptr, up_ptr, x_ptr, mean_ptr, scale_ptr, out_ptr,
    n, d, tiles, up_step, g_batch, g_row, x_batch, x_row, x_col, factor,
    SCALED: tl.constexpr, CENTER: tl.constexpr, ONCE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Gradient g (b, n, d) of the mapped rows to out (b, n, d), that of x: (g - y <g, y> - mean g) / |c| where SCALED.

    g is multiplied by factor and the upstream gradient, and h, if there, of a second value, by the second of those.
    """
    end = COLUMNS if ONCE else d
    batch, row = block_of(tiles, ROWS)
    row_ok = row < n
    row = row.to(tl.int64)
    place = batch * n + row
    base_g, base_x = batch * g_batch + row * g_row, batch * x_batch + row * x_row
    up_g, up_h = tl.cast(factor, SUMS), tl.cast(factor, SUMS)
    if up_ptr is not None:
        up_g, up_h = up_g * tl.load(up_ptr).to(SUMS), up_h * tl.load(up_ptr + up_step).to(SUMS)
    mean, scale = tl.zeros([ROWS], SUMS), tl.full([ROWS], 1.0, SUMS)
    along, total = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    if SCALED:
        mean = tl.load(mean_ptr + place, mask=row_ok, other=0.0)
        scale = tl.load(scale_ptr + place, mask=row_ok, other=0.0)
        for start in range(0, end, COLUMNS):
            g, keep = _upstream(g_ptr, h_ptr, base_g, start, d, row_ok, up_g, up_h, COLUMNS, SUMS)
            x, _ = _load(x_ptr, base_x, x_col, start, d, row_ok, COLUMNS, SUMS)
            along += tl.sum(g * tl.where(keep, (x - mean[:, None]) * scale[:, None], 0.0), 1)
            total += tl.sum(g, 1)
    shift = total / d if CENTER else tl.zeros([ROWS], SUMS)
    for start in range(0, end, COLUMNS):
        col = start + tl.arange(0, COLUMNS)[None, :]
        g, keep = _upstream(g_ptr, h_ptr, base_g, start, d, row_ok, up_g, up_h, COLUMNS, SUMS)
        if SCALED:
            x, _ = _load(x_ptr, base_x, x_col, start, d, row_ok, COLUMNS, SUMS)
            y = (x - mean[:, None]) * scale[:, None]
            g = (g - y * along[:, None] - shift[:, None]) * scale[:, None]
        tl.store(out_ptr + (place * d)[:, None] + col, narrow(g, out_ptr.dtype.element_ty, UPCAST), mask=keep)


@dataclass(frozen=True)
class Rows:
    """Mapped rows as products want them, z (terms, b, n, width).

    Args:
        statistics: (4, b, n), the student's means and scales, then the teacher's, where the relation has them.
        right: the student's rows alone, (terms, b, n, padded), where z mixes them.
        count: 0, of the kernels after (``last``).
    """

    z: Tensor
    right: Tensor
    count: Tensor
    statistics: Tensor | None


def normalise(
    x: Tensor,
    t: Tensor | None,
    kind: str,
    math: Math,
    layout: str = "",
    sign: float = 1.0,
    shift: Tensor | None = None,
    right: bool = False,
) -> Rows:
    """Rows of x (b, n, dx), and of t (b, n, dt), any strides, mapped.

    Args:
        kind: ``"gram"`` (as they are), ``"cosine"``, ``"pearson"``, or ``"shift"``: x less ``shift`` (b, dx),
            contiguous, and t as it is.
        layout: of z: ``"uvu"`` and ``"uv"`` need equal widths; otherwise x beside sign * t.
        right: whether x alone is asked for too.
    """
    (b, n, dx), dt = x.shape, 0 if t is None else t.shape[2]
    width = len(layout) * padded(dx) if layout else padded(dx) + padded(dt)

    mapped = kind in ("cosine", "pearson")
    statistics = empty((4 if t is not None else 2, b, n), math.sums, x.device) if mapped else None
    z, config = empty((math.terms, b, n, width), math.storage, x.device), map_tile(max(dx, dt), math.sums, x.device)
    tiles, other = triton.cdiv(n, config.rows), x if t is None else t
    alone = empty((math.terms, b, n, padded(dx)), math.storage, x.device) if right and layout else None
    count = empty((1,), torch.int32, x.device) if b * n else torch.zeros(1, dtype=torch.int32, device=x.device)
    launch(
        rows_fwd_kernel, (b * tiles,), config, math, x_ptr=x, t_ptr=other, z_ptr=z, right_ptr=alone, count_ptr=count,
        shift_ptr=x if shift is None else shift, stat_ptr=statistics, n=n, dx=dx, dt=dt, padded_x=padded(dx),
        padded_t=padded(dt), tiles=tiles, width=width, x_batch=x.stride(0), x_row=x.stride(1), x_col=x.stride(2),
        t_batch=other.stride(0), t_row=other.stride(1), t_col=other.stride(2), z_step=z.stride(0),
        right_step=0 if alone is None else alone.stride(0), sign=sign, KIND=KINDS[kind],
        UV=bool(layout), PAIR=t is not None, ONCE=config.columns >= max(padded(dx), padded(dt)),
        # A centred row this short, relative to the row itself, is constant up to rounding.
        TINY=4 * torch.finfo(math.sums).eps if kind == "pearson" else 0.0,
    )  # fmt: skip
    return Rows(z, z.narrow(3, 0, padded(dx)) if alone is None else alone, count, statistics)


def normalise_backward(
    g: Tensor,
    x: Tensor,
    statistics: Tensor | None,
    kind: str,
    upstream: Tensor | None,
    factor: float = 1.0,
    second: Tensor | None = None,
) -> Tensor:
    """Gradient of the loss in x (*b, n, d), in its dtype and contiguous.

    Args:
        g: of a value in the mapped rows (b, n, >= d), columns of stride 1. second: likewise, of a second value.
        statistics: (2, b, n), where the relation has them.
        upstream: of the value () or of both (2,); ``None`` where g holds it. factor: of all of it.
    """
    out, x = empty(x.shape, x.dtype, x.device), x.unsqueeze(0) if x.ndim == 2 else x.flatten(0, -3)
    (b, n, d), config = x.shape, map_tile(x.shape[2], g.dtype, x.device)
    mean, scale = (None, None) if statistics is None else statistics
    tiles = triton.cdiv(n, config.rows)
    launch(
        rows_bwd_kernel, (b * tiles,), config, math(g.dtype), g_ptr=g, h_ptr=second, up_ptr=upstream, x_ptr=x,
        mean_ptr=mean, scale_ptr=scale, out_ptr=out, n=n, d=d, tiles=tiles,
        up_step=0 if second is None or upstream is None else upstream.stride(0), g_batch=g.stride(0), g_row=g.stride(1),
        x_batch=x.stride(0), x_row=x.stride(1), x_col=x.stride(2), factor=factor, SCALED=scale is not None,
        CENTER=kind == "pearson", ONCE=config.columns >= d, UPCAST=interpreting() and x.dtype == torch.bfloat16,
    )  # fmt: skip
    return out
