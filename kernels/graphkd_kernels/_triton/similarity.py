"""Matrices that the caller wants whole: mapped rows, and relations of distances from the product's tiles.

Inner products of mapped rows are left to the vendor's matrix product: as fast as ours, gradients free.
Under torch.compile the row maps are the reference's, which the compiler fuses into one pass too.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import autograd, reference
from graphkd_kernels._triton.cases import Case
from graphkd_kernels._triton.configs import math, pick
from graphkd_kernels._triton.edge_sum import KINDS, common, flat
from graphkd_kernels._triton.edges import RELATIONS, relate, sizes, split
from graphkd_kernels._triton.launch import arch, empty, launch
from graphkd_kernels._triton.library import KernelRule, fit, register, wide
from graphkd_kernels._triton.rows import normalise, normalise_backward
from graphkd_kernels._triton.tiles import constants, products
from graphkd_kernels.autograd import Maybe, Needs, Options


@triton.jit
def similarity_kernel(
    a_ptr, b_ptr, size_a_ptr, size_b_ptr, out_ptr, n, m, width, tiles_n, tiles_m, gamma, gamma_rest,
    RELATION: tl.constexpr, TINY: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Relation of rows a (b, n, width) and b (b, m, width), from their product and squared sizes, to out (b, n, m)."""
    pid = tl.program_id(0)
    batch, index = (pid // (tiles_n * tiles_m)).to(tl.int64), pid % (tiles_n * tiles_m)
    row, col = (index // tiles_m) * BM + tl.arange(0, BM), (index % tiles_m) * BN + tl.arange(0, BN)
    a_ptr, b_ptr = a_ptr + batch * n * width, b_ptr + batch * m * width
    product = products(a_ptr, b_ptr, row, col, n, m, width, width, width, BK, PRECISION, UPCAST, SUMS)
    size_a = tl.load(size_a_ptr + batch * n + row, mask=row < n, other=0.0)
    size_b = tl.load(size_b_ptr + batch * m + col, mask=col < m, other=0.0)
    value, _ = relate(product, size_a, size_b, gamma, gamma_rest, RELATION, TINY)
    keep = (row < n)[:, None] & (col < m)[None, :]
    tl.store(out_ptr + (batch * n + row)[:, None] * m + col[None, :], value, mask=keep)


class Rows(KernelRule):
    """Mapped rows. options: "unit" or "center"; tensors: x. The gradient is computed in the backward pass."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        (x,), (kind,) = tensors, options
        assert x is not None
        how = math(wide(x.dtype))
        found = normalise(flat(x), None, kind, how)
        return found.z[..., : x.shape[-1]].reshape(x.shape), (found.mean, found.scale)

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        (x,), (mean, scale) = tensors, kept
        assert x is not None
        return (normalise_backward(flat(upstream.contiguous()), flat(x), mean, scale, options[0]).view(x.shape),)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        (x,) = tensors
        assert x is not None
        x = x.to(wide(x.dtype))
        return reference.unit_rows(x) if options[0] == "unit" else reference.center_normalize(x)


class Distances(KernelRule):
    """Relations of distances. options: relation, gamma; tensors: x, y. The value is all that is kept."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        relation, gamma = options
        x, y = tensors
        assert x is not None
        dtype = wide(common(x, y))
        how = math(dtype)
        shift = flat(x if y is None else y).mean(dim=1, dtype=how.sums)
        a = normalise(flat(x), None, "shift", how, shift=shift).z
        b = a if y is None else normalise(flat(y), None, "shift", how, shift=shift).z
        (count, n, width), m = a.shape, b.shape[1]
        size_a = sizes(a, how, "similarity")
        size_b = size_a if y is None else sizes(b, how, "similarity")
        out = empty((count, n, m), dtype, a.device)
        config = pick("similarity", how, arch(a.device))
        tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
        args = {
            "a_ptr": a, "b_ptr": b, "size_a_ptr": size_a, "size_b_ptr": size_b, "out_ptr": out, "n": n, "m": m,
            "width": width, "tiles_n": tiles_n, "tiles_m": tiles_m,
        } | split("gamma", gamma)  # fmt: skip
        rule = {
            "RELATION": RELATIONS[relation], "TINY": 16 * torch.finfo(how.sums).eps,
            "BM": config.rows, "BN": config.columns, "BK": config.depth,
        }  # fmt: skip
        launch(similarity_kernel, (count * tiles_n * tiles_m,), args, rule | constants(how), config, how.name)
        value = out.view(*x.shape[:-1], m)
        return value, (value,)

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        relation, gamma = options
        (x, y), (value,) = tensors, kept
        assert x is not None
        assert value is not None
        if relation == "rbf":
            weight = -2 * gamma * value * upstream
        elif relation == "squared_euclidean":
            weight = 2 * upstream
        else:  # equal rows are at distance 0, without gradient
            weight = torch.where(value == 0, 0.0, upstream / torch.where(value == 0, 1.0, value))
        a = x.to(value.dtype)
        if y is None:
            weight = weight + weight.mT
            return ((weight.sum(-1, keepdim=True) * a - weight @ a).to(x.dtype), None)
        b = y.to(value.dtype)
        of_x = weight.sum(-1, keepdim=True) * a - weight @ b if needs[0] else None
        of_y = weight.mT.sum(-1, keepdim=True) * b - weight.mT @ a if needs[1] else None
        return None if of_x is None else of_x.to(x.dtype), None if of_y is None else of_y.to(y.dtype)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        (x, y), (relation, gamma) = tensors, options
        assert x is not None
        return reference.similarity(x.to(wide(x.dtype)), None if y is None else y.to(wide(y.dtype)), relation, gamma)


def _mapped(x: Tensor, kind: str) -> Tensor:
    if torch.compiler.is_compiling():
        plain: Tensor = RULES[kind].formula((kind,), x)
        return plain
    return autograd.apply("triton_rows", (kind,), x)


def center_normalize(x: Tensor) -> Tensor:
    """Rows centred and scaled to unit length, in the type of x; see reference.center_normalize."""
    fit(x)
    return _mapped(x, "center").to(x.dtype)


def unit_rows(x: Tensor) -> Tensor:
    """Rows scaled to unit length, in the type of x; see reference.unit_rows."""
    fit(x)
    return _mapped(x, "unit").to(x.dtype)


def similarity(x: Tensor, y: Maybe, relation: str, gamma: float = 1.0) -> Tensor:
    """A relation of all pairs; see reference.similarity. float32 for 16-bit inputs, but for "gram": in their type."""
    fit(x, y)
    if relation not in KINDS:
        if torch.compiler.is_compiling():
            return RULES[relation].formula((relation, gamma), x, y)
        return autograd.apply("triton_distances", (relation, gamma), x, y)
    if relation == "gram":
        return reference.gram(x, x if y is None else y)
    a = _mapped(x, KINDS[relation])
    return reference.gram(a, a if y is None else _mapped(y, KINDS[relation]))


register("triton_rows", Rows())
register("triton_distances", Distances())
RULES = {"unit": Rows(), "center": Rows()} | {name: Distances() for name in RELATIONS if name != "product"}
OPERATIONS = {"similarity": similarity, "center_normalize": center_normalize, "unit_rows": unit_rows}
CASES = [
    Case("triton_rows", (kind,), ((4096, width),), (True,)) for kind in ("unit", "center") for width in (64, 512, 3000)
] + [
    Case("triton_distances", (relation, 0.5), ((2048, 256), y), (False, False))
    for relation in ("euclidean", "rbf")
    for y in (None, (1000, 256))
]
