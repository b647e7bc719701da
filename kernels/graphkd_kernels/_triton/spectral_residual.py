"""``spectral_residual``: what the student's Laplacian does wrong to the teacher's eigenvectors.

With affinities x x' three thin products do (their rank is that of x). With Gaussian ones, four sweeps of tiles:
degrees, A V, its transpose on the gradient, and the gradient of the nodes; no affinity is stored.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import edge_tiles, node_blocks
from graphkd_kernels._triton.configs import math, pick, power
from graphkd_kernels._triton.edge_kl import relations
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.tiles import block_of, dot, exact, load, narrow, products
from graphkd_kernels.autograd import Found, Maybe, Needs, apply
from graphkd_kernels.precision import widened
from graphkd_kernels.reference.spectral_residual import LEAST_DEGREE

__all__ = ["spectral_residual"]


@triton.jit
def rbf_kernel(
    x_ptr, size_ptr, v_ptr, out_ptr, n, d, k, tiles, gamma: tl.float64,
    TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr, WIDTH: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """out (b, n, k) = A v with A = exp(-gamma |x_i - x_j|^2) of rows of x (b, n, d); v ``None``: the sums of A."""
    gamma = exact(gamma, SUMS)
    graph, row = block_of(tiles, ROWS)
    feature = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    x_ptr, size_ptr = x_ptr + graph * n * d, size_ptr + graph * n
    total = tl.zeros([ROWS, WIDTH], SUMS)
    sums = tl.zeros([ROWS], SUMS)
    for start in range(0, n, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        a, _ = relations(
            x_ptr, x_ptr, size_ptr, size_ptr, row, column, n, n, d, gamma, 3, TINY, BK, PRECISION, UPCAST, SUMS
        )
        if v_ptr is None:
            sums += tl.sum(tl.where((column < n)[None, :], a, 0.0), 1)
        else:
            v = load(v_ptr + graph * n * k, column, feature, n, k, k)
            total = dot(narrow(a, v.dtype, UPCAST), v, total, PRECISION, UPCAST)
    if v_ptr is None:
        tl.store(out_ptr + graph * n + row, sums, mask=row < n)
    else:
        place = (graph * n + row)[:, None] * k + feature[None, :]
        tl.store(out_ptr + place, total, mask=(row < n)[:, None] & (feature < k)[None, :])


@triton.jit
def rbf_bwd_kernel(
    x_ptr, size_ptr, left_ptr, right_ptr, out_ptr, n, d, k, tiles, gamma: tl.float64,
    TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr, WIDTH: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Gradient out (b, n, d) of x, where that of a_ij and a_ji together is left_i . right_j, both (b, n, k)."""
    gamma = exact(gamma, SUMS)
    graph, row = block_of(tiles, ROWS)
    feature = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    x_ptr, size_ptr = x_ptr + graph * n * d, size_ptr + graph * n
    left_ptr, right_ptr = left_ptr + graph * n * k, right_ptr + graph * n * k
    total = tl.zeros([ROWS, WIDTH], SUMS)
    sums = tl.zeros([ROWS], SUMS)
    for start in range(0, n, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        _, w = relations(
            x_ptr, x_ptr, size_ptr, size_ptr, row, column, n, n, d, gamma, 3, TINY, BK, PRECISION, UPCAST, SUMS
        )
        w *= products(left_ptr, right_ptr, row, column, n, n, k, k, k, BK, PRECISION, UPCAST, SUMS)
        sums += tl.sum(w, 1)  # columns outside have right = 0
        x = load(x_ptr, column, feature, n, d, d)
        total = dot(narrow(w, x.dtype, UPCAST), x, total, PRECISION, UPCAST)
    x = load(x_ptr, row, feature, n, d, d).to(SUMS)
    place = (graph * n + row)[:, None] * d + feature[None, :]
    tl.store(out_ptr + place, sums[:, None] * x - total, mask=(row < n)[:, None] & (feature < d)[None, :])


class _Gaussian:
    """Products with the affinities of centred nodes x (b, n, d)."""

    def __init__(self, x: Tensor, gamma: float) -> None:
        self.x, self.gamma, self.math = (x - x.mean(1, keepdim=True)).contiguous(), gamma, math(x.dtype)
        self.sizes = edge_tiles.sizes(self.x, self.math)

    def launch(self, kernel: Any, columns: int, depth: int, **extra: Maybe) -> Tensor:
        """Output (b, n, columns) of a kernel."""
        (b, n, d), config = self.x.shape, pick("spectral", self.math, self.x.device)
        block, tiles = power(columns, config.chunk), triton.cdiv(n, config.rows)
        out = empty((b, n, columns), self.x.dtype, self.x.device)
        launch(
            kernel, (b * tiles, triton.cdiv(columns, block)), config, self.math, x_ptr=self.x, size_ptr=self.sizes,
            out_ptr=out, n=n, d=d, k=depth, tiles=tiles, **extra, gamma=float(self.gamma), TINY=self.math.tiny,
            WIDTH=block,
        )  # fmt: skip
        return out

    def apply(self, v: Tensor) -> Tensor:
        """A v."""
        return self.launch(rbf_kernel, v.shape[2], v.shape[2], v_ptr=v.contiguous())

    def gradient(self, left: Tensor, right: Tensor) -> Tensor:
        """Of <left right', A>."""
        both = torch.cat([left, right], 2), torch.cat([right, left], 2)
        return self.launch(rbf_bwd_kernel, self.x.shape[2], both[0].shape[2], left_ptr=both[0], right_ptr=both[1])


def _gradients(needs: Needs, xs: Tensor, basis: Tensor, values: Tensor, gamma: float) -> Found:
    """Tensors: nodes (*b, n, d), basis (*b, n, k), values (*b, k) -> (*b)."""
    x, u = (each.reshape(-1, *each.shape[-2:]) for each in (xs, basis))
    lambdas, affinity = values.reshape(-1, 1, values.shape[-1]), _Gaussian(x, gamma)
    degrees = affinity.launch(rbf_kernel, 1, 1, v_ptr=None)
    scale = degrees.clamp_min(LEAST_DEGREE).rsqrt()
    v = scale * u
    product = affinity.apply(v)
    residual = u - scale * product - lambdas * u
    value = residual.square().sum((1, 2)).view(xs.shape[:-2])
    if True not in needs:
        return value, (None, None, None)
    # Backwards through residual = u - scale (A v) - lambdas u, v = scale u, scale = degrees^(-1/2).
    g = 2 * residual
    d_product = -scale * g
    d_v = affinity.apply(d_product)
    dx: Maybe = None
    if needs[0]:
        d_scale = (d_v * u).sum(2, keepdim=True) - (g * product).sum(2, keepdim=True)
        d_degrees = torch.where(degrees < LEAST_DEGREE, 0.0, -0.5 * d_scale * scale.pow(3))
        left, right = torch.cat([d_product, d_degrees], 2), torch.cat([v, torch.ones_like(d_degrees)], 2)
        dx = affinity.gradient(left, right).view(xs.shape)
    du = (g - lambdas * g + scale * d_v).view(basis.shape) if needs[1] else None
    return value, (dx, du, -(g * u).sum(1).view(values.shape) if needs[2] else None)


kernel_rule(
    "triton/spectral_residual",
    _gradients,
    lambda xs, basis, values, gamma: reference.spectral_residual(xs, basis, values, "rbf", gamma),
    empty=lambda xs, *others: xs.new_empty(xs.shape[:-2]),
)


@widened
def spectral_residual(xs: Tensor, basis: Tensor, values: Tensor, affinity: str = "gram", gamma: float = 1.0) -> Tensor:
    """|L U - U diag(values)|^2 of each graph: ``reference.spectral_residual``."""
    fit(xs, basis, values)
    if affinity == "rbf":
        return apply("triton/spectral_residual", (float(gamma),), *node_blocks.one_type(xs, basis, values))
    degrees = xs @ xs.sum(-2, keepdim=True).mT
    scaled = xs * degrees.clamp_min(LEAST_DEGREE).rsqrt()
    residual = basis - scaled @ (scaled.mT @ basis) - basis * values.unsqueeze(-2)
    return residual.square().sum((-2, -1))
