"""Rows centred and scaled to unit length, pairs of them as sum and difference, and the gradient of both.

``rows_fwd_kernel`` reads the rows of one or two matrices once per pass and writes what products want, contiguous and
rounded once: the rows, or [U V U] with U = (S + T) / sqrt(2), V = (S - T) / sqrt(2). Derivations: kernels/README.md.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels._triton.configs import Config, Math
from graphkd_kernels._triton.launch import arch, empty, launch
from graphkd_kernels._triton.tiles import TYPES, constants, narrow

KINDS = {"raw": 0, "unit": 1, "center": 2}


@triton.jit
def _load(x_ptr, base, step, start, d, row_ok, BLOCK: tl.constexpr, SUMS: tl.constexpr):
    """Columns start.. of some rows, and which of them exist."""
    col = start + tl.arange(0, BLOCK)
    keep = row_ok[:, None] & (col < d)[None, :]
    x = tl.load(x_ptr + base[:, None] + col.to(tl.int64)[None, :] * step, mask=keep, other=0.0)
    return x.to(SUMS), keep


@triton.jit
def _statistics(x_ptr, base, step, d, row_ok, KIND: tl.constexpr, TINY: tl.constexpr, BLOCK: tl.constexpr, SUMS: tl.constexpr):
    """What is subtracted from each row, and what it is then multiplied by: 0 for a dead row."""
    total = tl.zeros(base.shape, SUMS)
    if KIND == 2:
        for start in range(0, d, BLOCK):
            x, _ = _load(x_ptr, base, step, start, d, row_ok, BLOCK, SUMS)
            total += tl.sum(x, 1)
    mean = total / d
    size = tl.zeros(base.shape, SUMS)
    square = tl.zeros(base.shape, SUMS)
    for start in range(0, d, BLOCK):
        x, keep = _load(x_ptr, base, step, start, d, row_ok, BLOCK, SUMS)
        size += tl.sum(x * x, 1)
        c = tl.where(keep, x - mean[:, None], 0.0)  # masked again: padding is no longer 0 after centring
        square += tl.sum(c * c, 1)
    length = tl.sqrt(square)
    dead = length <= TINY * tl.sqrt(size)  # a NaN is not, and passes
    return mean, tl.where(dead, 0.0, 1.0 / tl.where(dead, 1.0, length))


@triton.jit
def rows_fwd_kernel(
    x_ptr, t_ptr, z_ptr, right_ptr, mean_x_ptr, scale_x_ptr, mean_t_ptr, scale_t_ptr,
    n, dx, dt, tiles, width,
    x_batch, x_row, x_col, t_batch, t_row, t_col,
    sign,
    KIND: tl.constexpr, UV: tl.constexpr, PAIR: tl.constexpr, RIGHT: tl.constexpr, TINY: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Rows of x (b, n, dx), and of t (b, n, dt) where PAIR, to z (b, n, width).

    z is [x], [x, sign * t], or where UV [u v u] or [u v], as its width allows. Where RIGHT, x alone goes to right too.
    """
    tile, batch = tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)
    row = tile * ROWS + tl.arange(0, ROWS)
    row_ok = row < n
    row = row.to(tl.int64)  # n * width may pass 2**31
    place = batch * n + row
    base_x = batch * x_batch + row * x_row
    mean_x, scale_x = tl.zeros([ROWS], SUMS), tl.full([ROWS], 1.0, SUMS)
    mean_t, scale_t = mean_x, scale_x
    if KIND > 0:
        mean_x, scale_x = _statistics(x_ptr, base_x, x_col, dx, row_ok, KIND, TINY, BLOCK, SUMS)
        tl.store(mean_x_ptr + place, mean_x, mask=row_ok)
        tl.store(scale_x_ptr + place, scale_x, mask=row_ok)
    base_t = base_x
    if PAIR:
        base_t = batch * t_batch + row * t_row
        if KIND > 0:
            mean_t, scale_t = _statistics(t_ptr, base_t, t_col, dt, row_ok, KIND, TINY, BLOCK, SUMS)
            tl.store(mean_t_ptr + place, mean_t, mask=row_ok)
            tl.store(scale_t_ptr + place, scale_t, mask=row_ok)
    z_row = z_ptr + (place * width)[:, None]
    kind = z_ptr.dtype.element_ty
    for start in range(0, dx, BLOCK):
        col = start + tl.arange(0, BLOCK)[None, :]
        x, keep = _load(x_ptr, base_x, x_col, start, dx, row_ok, BLOCK, SUMS)
        x = (x - mean_x[:, None]) * scale_x[:, None]
        if RIGHT:
            tl.store(right_ptr + (place * dx)[:, None] + col, narrow(x, kind, UPCAST), mask=keep)
        if UV:
            t, _ = _load(t_ptr, base_t, t_col, start, dx, row_ok, BLOCK, SUMS)
            t = (t - mean_t[:, None]) * scale_t[:, None]
            u = narrow((x + t) * 0.7071067811865476, kind, UPCAST)
            v = narrow((x - t) * 0.7071067811865476, kind, UPCAST)
            tl.store(z_row + col, u, mask=keep)
            tl.store(z_row + dx + col, v, mask=keep)
            if width > 2 * dx:
                tl.store(z_row + 2 * dx + col, u, mask=keep)
        else:
            tl.store(z_row + col, narrow(x, kind, UPCAST), mask=keep)
    if PAIR and not UV:
        for start in range(0, dt, BLOCK):
            col = start + tl.arange(0, BLOCK)[None, :]
            t, keep = _load(t_ptr, base_t, t_col, start, dt, row_ok, BLOCK, SUMS)
            t = (t - mean_t[:, None]) * scale_t[:, None] * sign
            tl.store(z_row + dx + col, narrow(t, kind, UPCAST), mask=keep)


@triton.jit
def rows_bwd_kernel(
    g_ptr, x_ptr, mean_ptr, scale_ptr, out_ptr,
    n, d, tiles, g_batch, g_row, x_batch, x_row, x_col,
    CENTER: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Gradient g (b, n, d) of the scaled rows to out (b, n, d), that of x: (g - y <g, y> - mean g) / |c|."""
    tile, batch = tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)
    row = tile * ROWS + tl.arange(0, ROWS)
    row_ok = row < n
    row = row.to(tl.int64)
    place = batch * n + row
    mean = tl.load(mean_ptr + place, mask=row_ok, other=0.0)
    scale = tl.load(scale_ptr + place, mask=row_ok, other=0.0)
    base_g, base_x = batch * g_batch + row * g_row, batch * x_batch + row * x_row
    along, total = tl.zeros([ROWS], SUMS), tl.zeros([ROWS], SUMS)
    for start in range(0, d, BLOCK):
        g, keep = _load(g_ptr, base_g, 1, start, d, row_ok, BLOCK, SUMS)
        x, _ = _load(x_ptr, base_x, x_col, start, d, row_ok, BLOCK, SUMS)
        along += tl.sum(g * tl.where(keep, (x - mean[:, None]) * scale[:, None], 0.0), 1)
        total += tl.sum(g, 1)
    shift = total / d if CENTER else tl.zeros([ROWS], SUMS)
    for start in range(0, d, BLOCK):
        col = start + tl.arange(0, BLOCK)[None, :]
        g, keep = _load(g_ptr, base_g, 1, start, d, row_ok, BLOCK, SUMS)
        x, _ = _load(x_ptr, base_x, x_col, start, d, row_ok, BLOCK, SUMS)
        y = (x - mean[:, None]) * scale[:, None]
        g = (g - y * along[:, None] - shift[:, None]) * scale[:, None]
        tl.store(out_ptr + (place * d)[:, None] + col, g.to(out_ptr.dtype.element_ty), mask=keep)


@dataclass(frozen=True)
class Rows:
    """Normalised rows as products want them. Shapes: z (b, n, width), right (b, n, d), the statistics (b, n)."""

    z: Tensor
    right: Tensor | None
    mean: Tensor | None
    scale: Tensor | None
    mean_t: Tensor | None
    scale_t: Tensor | None


def config(d: int, device: torch.device) -> Config:
    """About 4,096 elements in registers, whatever the width; 16 rows at a time in the interpreter."""
    block = min(triton.next_power_of_2(max(d, 16)), 2048)
    rows = 64 if arch(device) == 0 else max(1, 4096 // block)
    return Config(rows, block, 1, 8 if block >= 1024 else 4, 1)


def normalise(
    x: Tensor, t: Tensor | None, kind: str, math: Math, layout: str = "", right: bool = False, sign: float = 1.0
) -> Rows:
    """Rows of x (b, n, dx), and of t (b, n, dt), any strides.

    Args:
        kind: ``"raw"``, ``"unit"`` or ``"center"``.
        layout: of z: ``"uvu"`` and ``"uv"`` need equal widths; otherwise x beside sign * t.
        right: whether x alone is wanted too.
    """
    (b, n, dx), dt = x.shape, 0 if t is None else t.shape[-1]
    width = len(layout) * dx if layout else dx + dt
    def statistics(wanted: bool) -> Tensor | None:
        return empty((b, n), math.sums, x.device) if wanted and kind != "raw" else None
    out = Rows(
        empty((b, n, width), math.storage, x.device),
        empty((b, n, dx), math.storage, x.device) if right else None,
        *(statistics(True), statistics(True), statistics(t is not None), statistics(t is not None)),
    )
    tile = config(max(dx, dt), x.device)
    tiles = triton.cdiv(n, tile.rows)
    other = x if t is None else t
    args = {
        "x_ptr": x, "t_ptr": t, "z_ptr": out.z, "right_ptr": out.right,
        "mean_x_ptr": out.mean, "scale_x_ptr": out.scale, "mean_t_ptr": out.mean_t, "scale_t_ptr": out.scale_t,
        "n": n, "dx": dx, "dt": dt, "tiles": tiles, "width": width,
        "x_batch": x.stride(0), "x_row": x.stride(1), "x_col": x.stride(2),
        "t_batch": other.stride(0), "t_row": other.stride(1), "t_col": other.stride(2), "sign": sign,
    }  # fmt: skip
    rule = {
        "KIND": KINDS[kind], "UV": bool(layout), "PAIR": t is not None, "RIGHT": right, "TINY": tiny(kind, math),
        "ROWS": tile.rows, "BLOCK": tile.columns,
    }  # fmt: skip
    launch(rows_fwd_kernel, (b * tiles,), args, rule | constants(math, dot=False), tile)
    return out


def tiny(kind: str, math: Math) -> float:
    """A centred row this short, relative to the row itself, is constant up to rounding."""
    return 4 * torch.finfo(math.sums).eps if kind == "center" else 0.0


def normalise_backward(g: Tensor, x: Tensor, mean: Tensor | None, scale: Tensor | None, kind: str) -> Tensor:
    """Gradient of x (b, n, d), in its dtype, from that of its normalised rows (b, n, d)."""
    if kind == "raw":
        return g.to(x.dtype)
    b, n, d = x.shape
    tile = config(d, x.device)
    tiles = triton.cdiv(n, tile.rows)
    out = empty((b, n, d), x.dtype, x.device)
    args = {
        "g_ptr": g, "x_ptr": x, "mean_ptr": mean, "scale_ptr": scale, "out_ptr": out, "n": n, "d": d, "tiles": tiles,
        "g_batch": g.stride(0), "g_row": g.stride(1),
        "x_batch": x.stride(0), "x_row": x.stride(1), "x_col": x.stride(2),
    }  # fmt: skip
    rule = {"CENTER": kind == "center", "ROWS": tile.rows, "BLOCK": tile.columns, "SUMS": TYPES[g.dtype]}
    launch(rows_bwd_kernel, (b * tiles,), args, rule, tile)
    return out
