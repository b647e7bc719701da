r"""Grams whose rows have unit length (SP, ICKD), compared through Grams of columns: nothing N x N exists.

For row i with a = Ys xs_i, b = Yt xt_i and e = a - b, its term is |a/|a| - b/|b||^2
= (|e|^2 - (|a| - |b|)^2) / (|a| |b|):
no large numbers are subtracted. With z = [u v], z' = [v u] of the row and the Gram G of the targets' [U V],

    e = [U V] z',  a + b = [U V] z,  |e|^2 = <G z', z'>,  <e, a + b> = <G z', z>,  |a + b|^2 = <G z, z>.

A row's own length and the size of all targets do not matter; both are made 1, so that U and V compare like with like.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import _blocked, autograd
from graphkd_kernels._triton.cases import Case
from graphkd_kernels._triton.configs import math
from graphkd_kernels._triton.edge_sum import Found, columns_pay, common, flat
from graphkd_kernels._triton.grams import gram, product, whole
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.library import KernelRule, fit, register, wide
from graphkd_kernels._triton.rows import config, normalise, normalise_backward, padded
from graphkd_kernels._triton.tiles import TYPES
from graphkd_kernels.autograd import Maybe, Needs, Options


@triton.jit
def unit_edges_kernel(
    z_ptr, h_ptr, f_ptr, alive_s_ptr, alive_t_ptr, out_ptr, grad_s_ptr, grad_t_ptr, weight_s_ptr, weight_t_ptr,
    n, d, GRADIENT: tl.constexpr, TINY: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Terms of the rows of z = [u v u] (n, 3 d) from h = z G and f = z' G (n, 2 d), summed in out for each program.

    GRADIENT: gradients in the mapped rows (n, d) of student and teacher, and the weights p z + q z' (n, 2 d) that make
    the targets' gradients.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < n
    place = row.to(tl.int64)
    ee, es, ss = tl.zeros([ROWS], tl.float64), tl.zeros([ROWS], tl.float64), tl.zeros([ROWS], tl.float64)
    for start in range(0, 2 * d, BLOCK):
        col = start + tl.arange(0, BLOCK)[None, :]
        keep = there[:, None] & (col < 2 * d)
        z = tl.load(z_ptr + (place * 3 * d)[:, None] + col, mask=keep, other=0.0).to(SUMS)
        swapped = tl.load(z_ptr + (place * 3 * d)[:, None] + d + col, mask=keep, other=0.0).to(SUMS)
        h = tl.load(h_ptr + (place * 2 * d)[:, None] + col, mask=keep, other=0.0)
        f = tl.load(f_ptr + (place * 2 * d)[:, None] + col, mask=keep, other=0.0)
        ee += tl.sum(f * swapped, 1).to(tl.float64)
        es += tl.sum(f * z, 1).to(tl.float64)
        ss += tl.sum(h * z, 1).to(tl.float64)
    total = ss + ee
    alive_s = tl.load(alive_s_ptr + place, mask=there, other=0.0) != 0.0  # a NaN is alive
    alive_t = tl.load(alive_t_ptr + place, mask=there, other=0.0) != 0.0
    aa, bb = total / 4 + es / 2, total / 4 - es / 2
    alive_s &= ~(aa <= TINY * total)
    alive_t &= ~(bb <= TINY * total)
    both = alive_s & alive_t
    a, b = tl.sqrt(tl.where(both, aa, 1.0)), tl.sqrt(tl.where(both, bb, 1.0))
    apart = tl.where(both, es / (a + b), 0.0)  # |a| - |b|
    term = tl.where(both, (ee - apart * apart) / (a * b), tl.where(alive_s | alive_t, 1.0, 0.0))
    term = tl.where(term < 0.0, 0.0, term)  # a NaN stays
    tl.store(out_ptr + tl.program_id(0), tl.sum(tl.where(there, term, 0.0)))
    if GRADIENT:
        near = term / 2  # 1 - cosine
        cross = -2.0 / (a * b)
        zero = tl.where(both, 1.0, 0.0)
        mean_s = zero * (-apart - near * b) / (a * a * b)
        mean_t = zero * (apart - near * a) / (b * b * a)
        half_s, half_t = zero * (mean_s - cross), zero * (cross - mean_t)
        for start in range(0, d, BLOCK):
            col = start + tl.arange(0, BLOCK)[None, :]
            keep = there[:, None] & (col < d)
            own, far = (place * 2 * d)[:, None] + col, (place * 2 * d)[:, None] + d + col
            hu, hv = tl.load(h_ptr + own, mask=keep, other=0.0), tl.load(h_ptr + far, mask=keep, other=0.0)
            fu, fv = tl.load(f_ptr + own, mask=keep, other=0.0), tl.load(f_ptr + far, mask=keep, other=0.0)
            u = tl.load(z_ptr + (place * 3 * d)[:, None] + col, mask=keep, other=0.0).to(SUMS)
            v = tl.load(z_ptr + (place * 3 * d)[:, None] + d + col, mask=keep, other=0.0).to(SUMS)
            p, q = mean_s.to(SUMS)[:, None], half_s.to(SUMS)[:, None]
            tl.store(
                grad_s_ptr + (place * d)[:, None] + col, 0.7071067811865476 * (p * (hu + hv) + q * (fu + fv)), mask=keep
            )
            tl.store(weight_s_ptr + own, p * u + q * v, mask=keep)
            tl.store(weight_s_ptr + far, p * v + q * u, mask=keep)
            p, q = mean_t.to(SUMS)[:, None], half_t.to(SUMS)[:, None]
            tl.store(
                grad_t_ptr + (place * d)[:, None] + col, 0.7071067811865476 * (p * (hu - hv) + q * (fu - fv)), mask=keep
            )
            tl.store(weight_t_ptr + own, p * u + q * v, mask=keep)
            tl.store(weight_t_ptr + far, p * v + q * u, mask=keep)


class UnitEdgeSum(KernelRule):
    """tensors: xs, ys, xt, yt of one width. float32 operands for 16-bit inputs: terms cancel."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> Found:
        xs, ys, xt, yt = (None if each is None else flat(each) for each in tensors)
        assert xs is not None
        assert xt is not None
        dtype = wide(common(*tensors))
        how = math(dtype)
        ends = (xs, xt) if ys is None or yt is None else (ys, yt)
        scales = [_inverse(end, dtype) for end in ends]
        x = normalise(xs, xt, "unit", how, "uvu")
        y = normalise(ends[0] * scales[0], ends[1] * scales[1], "raw", how, "uv").z
        g = whole(gram(y, how)).to(how.storage)
        d = padded(xs.shape[2])
        h, f = product(x.z[..., : 2 * d], g, how), product(x.z[..., d:], g, how)
        assert x.scale is not None
        assert x.scale_t is not None
        value, sides = terms(x.z, h, f, (x.scale, x.scale_t), any(needs))
        found: list[Maybe] = [None] * 4
        for teacher, (own, far, mean, scale) in enumerate(
            ((xs, ends[0], x.mean, x.scale), (xt, ends[1], x.mean_t, x.scale_t))
        ):
            if not (needs[2 * teacher] or needs[2 * teacher + 1]):
                continue
            grad, weights = sides[teacher]
            of_x = normalise_backward(grad, own, mean, scale, "unit")
            rows = normalise(own, None, "unit", how).z
            factor = gram(weights, how, rows).sum(1, dtype=torch.float64).to(how.storage)
            of_y = (product(y, factor, how)[..., : far.shape[2]] * scales[teacher]).to(far.dtype)
            if ys is None:
                found[2 * teacher] = of_x + of_y
            else:
                found[2 * teacher] = of_x if needs[2 * teacher] else None
                found[2 * teacher + 1] = of_y if needs[2 * teacher + 1] else None
        shaped = (None if v is None or t is None else v.view(t.shape) for v, t in zip(found, tensors, strict=True))
        return value.to(dtype), tuple(shaped)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        value: Tensor = _blocked.OPERATIONS["unit_edge_sum"](*tensors)
        return value


def _inverse(x: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / |x| of each whole matrix (b, n, d) -> (b, 1, 1); 0 for a matrix of zeros."""
    size = x.to(dtype).square().sum((1, 2), keepdim=True).sqrt()
    return torch.where(size == 0, 0.0, 1 / torch.where(size == 0, 1.0, size))


def terms(
    z: Tensor, h: Tensor, f: Tensor, scales: tuple[Tensor, Tensor], gradient: bool
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Sum () of all rows' terms in float64; for student and teacher the gradient of the rows, and the weights."""
    (b, n, _), d = z.shape, z.shape[2] // 3
    tile = config(d, torch.float64, z.device)
    programs = triton.cdiv(b * n, tile.rows)
    out = empty((programs,), torch.float64, z.device)
    sides = [
        (empty((b, n, d), h.dtype, z.device), empty((b, n, 2 * d), h.dtype, z.device)) for _ in range(2) if gradient
    ]
    (grad_s, weight_s), (grad_t, weight_t) = sides if gradient else ((None, None), (None, None))
    args = {
        "z_ptr": z, "h_ptr": h, "f_ptr": f, "alive_s_ptr": scales[0], "alive_t_ptr": scales[1], "out_ptr": out,
        "grad_s_ptr": grad_s, "grad_t_ptr": grad_t, "weight_s_ptr": weight_s, "weight_t_ptr": weight_t,
        "n": b * n, "d": d,
    }  # fmt: skip
    rule = {
        "GRADIENT": gradient, "TINY": 4 * torch.finfo(h.dtype).eps, "ROWS": tile.rows, "BLOCK": tile.columns,
        "SUMS": TYPES[h.dtype],
    }  # fmt: skip
    launch(unit_edges_kernel, (programs,), args, rule, tile)
    return out.sum(), sides


def unit_edge_sum(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    """Squared difference of the two Grams, each with rows of unit length; see reference.unit_edge_sum.

    Small or unequally wide node sets go by the vendor's products: their N x M matrices are no larger than they are.
    """
    fit(xs, ys, xt, yt)
    d, m = xs.shape[-1], (xs if ys is None else ys).shape[-2]
    if d == xt.shape[-1] and columns_pay(xs.shape[-2], m, 2 * d):
        return autograd.apply("triton_unit_edge_sum", (), xs, ys, xt, yt)
    result: Tensor = _blocked.OPERATIONS["unit_edge_sum"](xs, ys, xt, yt)
    return result


register("triton_unit_edge_sum", UnitEdgeSum())
OPERATIONS = {"unit_edge_sum": unit_edge_sum}
CASES = [
    Case("triton_unit_edge_sum", (), ((8192, 512), None, (8192, 512), None), (True, False, False, False)),
    Case("triton_unit_edge_sum", (), ((8, 512, 49), None, (8, 512, 49), None), (False,) * 4),
]
