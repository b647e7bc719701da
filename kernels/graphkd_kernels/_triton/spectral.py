"""``spectral_residual``: what the student's Laplacian does wrong to the teacher's eigenvectors.

With affinities x x' three thin products do (their rank is that of x). With Gaussian ones, four sweeps of tiles:
degrees, A V, its transpose on the gradient, and the gradient of the nodes; no affinity is stored.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import edges, nodes
from graphkd_kernels._triton.cases import WIDE, Case
from graphkd_kernels._triton.flash import relations
from graphkd_kernels._triton.flash_configs import arithmetic, pick, width
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.library import KernelRule, fit, register, there
from graphkd_kernels._triton.row_kl import exact
from graphkd_kernels._triton.tiles import block_of, constants, dot, load, narrow, products
from graphkd_kernels.autograd import Maybe, Needs, Options, apply
from graphkd_kernels.precision import widened
from graphkd_kernels.reference.spectral import LEAST_DEGREE


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
        self.x, self.gamma = (x - x.mean(1, keepdim=True)).contiguous(), gamma
        self.math = arithmetic(x.dtype)
        self.sizes = edges.sizes(self.x, self.math)

    def _launch(self, kernel: Any, extra: dict[str, Any], columns: int, depth: int) -> Tensor:
        (b, n, d), config = self.x.shape, pick("spectral", self.math, self.x.device)
        block, tiles = width(columns, config), triton.cdiv(n, config.rows)
        out = empty((b, n, columns), self.x.dtype, self.x.device)
        args = {"x_ptr": self.x, "size_ptr": self.sizes, "out_ptr": out, "n": n, "d": d, "k": depth, "tiles": tiles}
        rule = constants(self.math) | {
            "TINY": nodes.tiny(self.x.dtype), "ROWS": config.rows, "COLUMNS": config.columns, "BK": config.depth,
            "WIDTH": block,
        }  # fmt: skip
        args |= extra | {"gamma": float(self.gamma)}
        launch(kernel, (b * tiles, triton.cdiv(columns, block)), args, rule, config, self.math.name)
        return out

    def degrees(self) -> Tensor:
        return self._launch(rbf_kernel, {"v_ptr": None}, 1, 1)

    def apply(self, v: Tensor) -> Tensor:
        return self._launch(rbf_kernel, {"v_ptr": v.contiguous()}, v.shape[2], v.shape[2])

    def gradient(self, left: Tensor, right: Tensor) -> Tensor:
        """Of <left right', A>."""
        both = torch.cat([left, right], 2), torch.cat([right, left], 2)
        return self._launch(
            rbf_bwd_kernel, {"left_ptr": both[0], "right_ptr": both[1]}, self.x.shape[2], both[0].shape[2]
        )


class GaussianResidual(KernelRule):
    """Tensors: nodes (*b, n, d), basis (*b, n, k), values (*b, k) -> (*b). Options: gamma."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        shapes = [each.shape for each in there(*tensors)]
        x, u = (each.reshape(-1, *each.shape[-2:]) for each in there(*tensors[:2]))
        (lambdas,) = (each.reshape(-1, 1, each.shape[-1]) for each in there(tensors[2]))
        affinity = _Gaussian(x, *options)
        degrees = affinity.degrees()
        few = degrees < LEAST_DEGREE
        scale = degrees.clamp_min(LEAST_DEGREE).rsqrt()
        v = scale * u
        product = affinity.apply(v)
        residual = u - scale * product - lambdas * u
        value = residual.square().sum((1, 2)).view(shapes[0][:-2])
        if True not in needs:
            return value, (None, None, None)
        # Backwards through residual = u - scale (A v) - lambdas u, v = scale u, scale = degrees^(-1/2).
        g = 2 * residual
        d_product = -scale * g
        d_v = affinity.apply(d_product)
        dx: Maybe = None
        du: Maybe = None
        if needs[0]:
            d_scale = (d_v * u).sum(2, keepdim=True) - (g * product).sum(2, keepdim=True)
            d_degrees = torch.where(few, 0.0, -0.5 * d_scale * scale.pow(3))
            ones = torch.ones_like(d_degrees)
            left, right = torch.cat([d_product, d_degrees], 2), torch.cat([v, ones], 2)
            dx = affinity.gradient(left, right).view(shapes[0])
        if needs[1]:
            du = (g - lambdas * g + scale * d_v).view(shapes[1])
        dl = -(g * u).sum(1).view(shapes[2]) if needs[2] else None
        return value, (dx, du, dl)

    def empty(self, options: Options, *tensors: Maybe) -> Tensor:
        (x,) = there(tensors[0])
        return x.new_empty(x.shape[:-2])

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        value: Tensor = reference.spectral_residual(*tensors, "rbf", options[0])
        return value


register("triton/spectral_residual", GaussianResidual())


@widened
def spectral_residual(xs: Tensor, basis: Tensor, values: Tensor, affinity: str = "gram", gamma: float = 1.0) -> Tensor:
    """|L U - U diag(values)|^2 of each graph: ``reference.spectral_residual``."""
    fit(xs, basis, values)
    xs, basis, values = there(*nodes.one_type(xs, basis, values))
    if affinity == "rbf":
        return apply("triton/spectral_residual", (float(gamma),), xs, basis, values)
    degrees = xs @ xs.sum(-2, keepdim=True).mT
    scaled = xs * degrees.clamp_min(LEAST_DEGREE).rsqrt()
    residual = basis - scaled @ (scaled.mT @ basis) - basis * values.unsqueeze(-2)
    return residual.square().sum((-2, -1))


OPERATIONS: dict[str, Callable[..., Any]] = {"spectral_residual": spectral_residual}

CASES = [
    Case("triton/spectral_residual", (0.5,), ((2, 1000, d), (2, 1000, k), (2, k)), (True, True, True), dtypes=WIDE)
    for d, k in ((128, 5), (65, 40))
]
