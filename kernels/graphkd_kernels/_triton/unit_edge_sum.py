r"""``unit_edge_sum``: Grams whose rows have unit length (SP, ICKD), compared; nothing N x N exists.

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

from graphkd_kernels import _blocked
from graphkd_kernels._triton.configs import map_tile, math
from graphkd_kernels._triton.edge_sum import columns_pay
from graphkd_kernels._triton.grams import gram, product, whole
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.node_blocks import common, flat
from graphkd_kernels._triton.rows import normalise, normalise_backward, padded
from graphkd_kernels.autograd import Found, Maybe, Needs, apply
from graphkd_kernels.precision import wide

__all__ = ["unit_edge_sum"]


@triton.jit
def unit_edges_kernel(
    z_ptr, h_ptr, f_ptr, alive_s_ptr, alive_t_ptr, out_ptr, grad_s_ptr, grad_t_ptr, weight_s_ptr, weight_t_ptr,
    n, d, GRADIENT: tl.constexpr, TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Terms of the rows of z = [u v u] (n, 3 d) from h = z G and f = z' G (n, 2 d), summed in out for each program.

    GRADIENT: gradients in the mapped rows (n, d) of student and teacher, and the weights p z + q z' (n, 2 d) that make
    the targets' gradients.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < n
    place = row.to(tl.int64)
    ee, es, ss = tl.zeros([ROWS], tl.float64), tl.zeros([ROWS], tl.float64), tl.zeros([ROWS], tl.float64)
    for start in range(0, 2 * d, COLUMNS):
        col = start + tl.arange(0, COLUMNS)[None, :]
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
        for start in range(0, d, COLUMNS):
            col = start + tl.arange(0, COLUMNS)[None, :]
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


def _gradients(needs: Needs, *nodes: Maybe) -> Found:
    """Tensors xs, ys, xt, yt of one width. float32 operands for 16-bit inputs: terms cancel."""
    xs, ys, xt, yt = (None if each is None else flat(each) for each in nodes)
    assert xs is not None
    assert xt is not None
    dtype, d = wide(common(*nodes)), padded(xs.shape[2])
    how, ends = math(dtype), (xs, xt) if ys is None or yt is None else (ys, yt)
    scales = [_inverse(end, dtype) for end in ends]
    x = normalise(xs, xt, "cosine", how, "uvu")
    y = normalise(ends[0] * scales[0], ends[1] * scales[1], "gram", how, "uv").z
    g = whole(gram(y, how)).to(how.storage)
    h, f = product(x.z[..., : 2 * d], g, how), product(x.z[..., d:], g, how)
    value, sides = _terms(x.z, h, f, [scale for _, scale in x.statistics], any(needs))
    found: list[Maybe] = []
    for k, own, far, scale, need in zip((0, 1), (xs, xt), ends, scales, (needs[:2], needs[2:]), strict=True):
        if not any(need):
            found += None, None
            continue
        grad, weights = sides[k]
        of_x = normalise_backward(grad, own, x.statistics[k], "cosine")
        rows = normalise(own, None, "cosine", how).z
        factor = gram(weights, how, rows).sum(1, dtype=torch.float64).to(how.storage)
        of_y = (product(y, factor, how)[..., : far.shape[2]] * scale).to(far.dtype)
        found += (of_x + of_y, None) if ys is None else (of_x if need[0] else None, of_y if need[1] else None)
    shaped = (None if v is None or t is None else v.view(t.shape) for v, t in zip(found, nodes, strict=True))
    return value.to(dtype), tuple(shaped)


def _inverse(x: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / |x| of each whole matrix (b, n, d) -> (b, 1, 1); 0 for a matrix of zeros."""
    size = x.to(dtype).square().sum((1, 2), keepdim=True).sqrt()
    return torch.where(size == 0, 0.0, 1 / torch.where(size == 0, 1.0, size))


def _terms(
    z: Tensor, h: Tensor, f: Tensor, scales: list[Maybe], gradient: bool
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Sum () of all rows' terms in float64; for student and teacher the gradient of the rows, and the weights."""
    (b, n, _), d = z.shape, z.shape[2] // 3
    config = map_tile(d, torch.float64, z.device)
    out = empty((triton.cdiv(b * n, config.rows),), torch.float64, z.device)
    sides = [
        (empty((b, n, d), h.dtype, z.device), empty((b, n, 2 * d), h.dtype, z.device)) for _ in range(2) if gradient
    ]
    (grad_s, weight_s), (grad_t, weight_t) = sides if gradient else ((None, None), (None, None))
    launch(
        unit_edges_kernel, (len(out),), config, math(h.dtype), z_ptr=z, h_ptr=h, f_ptr=f, alive_s_ptr=scales[0],
        alive_t_ptr=scales[1], out_ptr=out, grad_s_ptr=grad_s, grad_t_ptr=grad_t, weight_s_ptr=weight_s,
        weight_t_ptr=weight_t, n=b * n, d=d, GRADIENT=gradient, TINY=4 * torch.finfo(h.dtype).eps,
    )  # fmt: skip
    return out.sum(), sides


kernel_rule("triton/unit_edge_sum", _gradients, _blocked.OPERATIONS["unit_edge_sum"])


def unit_edge_sum(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    """Squared difference of the two Grams, each with rows of unit length: ``reference.unit_edge_sum``.

    Small or unequally wide node sets go by the vendor's products: their N x M matrices are no larger than they are.
    """
    fit(xs, ys, xt, yt)
    d, m = xs.shape[-1], (xs if ys is None else ys).shape[-2]
    if d == xt.shape[-1] and columns_pay(xs.shape[-2], m, 2 * d):
        return apply("triton/unit_edge_sum", (), xs, ys, xt, yt)
    result: Tensor = _blocked.OPERATIONS["unit_edge_sum"](xs, ys, xt, yt)
    return result
