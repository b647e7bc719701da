"""``similarity``: matrices that the caller wants whole; relations of distances from the product's tiles.

Inner products of mapped rows are left to the vendor's matrix product: as fast as ours, gradients free.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import _blocked, reference
from graphkd_kernels._triton.configs import math, pick
from graphkd_kernels._triton.edge_tiles import RELATIONS, relate, sizes, split
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.node_blocks import common, flat
from graphkd_kernels._triton.rows import normalise
from graphkd_kernels._triton.tiles import COUNTS, products
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, apply
from graphkd_kernels.precision import wide, widened

__all__ = ["similarity"]


@triton.jit(do_not_specialize=COUNTS)
def similarity_kernel(
    a_ptr, b_ptr, size_a_ptr, size_b_ptr, out_ptr, n, m, width, tiles_n, tiles_m, gamma, gamma_rest,
    RELATION: tl.constexpr, TINY: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Relation of rows a (b, n, width) and b (b, m, width), from their product and squared sizes, to out (b, n, m)."""
    pid = tl.program_id(0)
    batch, index = (pid // (tiles_n * tiles_m)).to(tl.int64), pid % (tiles_n * tiles_m)
    row, col = (index // tiles_m) * ROWS + tl.arange(0, ROWS), (index % tiles_m) * COLUMNS + tl.arange(0, COLUMNS)
    a_ptr, b_ptr = a_ptr + batch * n * width, b_ptr + batch * m * width
    product = products(a_ptr, b_ptr, row, col, n, m, width, width, width, BK, PRECISION, UPCAST, SUMS)
    size_a = tl.load(size_a_ptr + batch * n + row, mask=row < n, other=0.0)
    size_b = tl.load(size_b_ptr + batch * m + col, mask=col < m, other=0.0)
    value, _ = relate(product, size_a, size_b, gamma, gamma_rest, RELATION, TINY)
    keep = (row < n)[:, None] & (col < m)[None, :]
    tl.store(out_ptr + (batch * n + row)[:, None] * m + col[None, :], value, mask=keep)


def _gradients(needs: Needs, x: Tensor, y: Maybe, relation: str, gamma: float) -> Found:
    """The value, which is all that is kept."""
    dtype = wide(common(x, y))
    how, device = math(dtype), x.device
    shift = flat(x if y is None else y).mean(dim=1, dtype=how.sums)
    a = normalise(flat(x), None, "shift", how, shift=shift).z
    b = a if y is None else normalise(flat(y), None, "shift", how, shift=shift).z
    (count, n, width), m = a.shape, b.shape[1]
    size_a = sizes(a, how)
    size_b = size_a if y is None else sizes(b, how)
    out, config = empty((count, n, m), dtype, device), pick("edges", how, device)
    tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
    launch(
        similarity_kernel, (count * tiles_n * tiles_m,), config, how, a_ptr=a, b_ptr=b, size_a_ptr=size_a,
        size_b_ptr=size_b, out_ptr=out, n=n, m=m, width=width, tiles_n=tiles_n, tiles_m=tiles_m,
        **split("gamma", gamma), RELATION=RELATIONS[relation], TINY=how.tiny,
    )  # fmt: skip
    value = out.view(*x.shape[:-1], m)
    return value, (value,)


def _empty(x: Tensor, y: Maybe, *options: object) -> Tensor:
    return x.new_empty(*x.shape[:-1], (x if y is None else y).shape[-2], dtype=wide(common(x, y)))


def _finish(
    needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Maybe], kept: tuple[Tensor], relation: str, gamma: float
) -> Kept:
    (x, y), (value,) = tensors, kept
    if relation == "rbf":
        weight = -2 * gamma * value * upstream
    elif relation == "squared_euclidean":
        weight = 2 * upstream
    else:  # equal rows are at distance 0, without gradient
        weight = torch.where(value == 0, 0.0, upstream / torch.where(value == 0, 1.0, value))
    a = x.to(value.dtype)
    if y is None:
        return _pulled(weight + weight.mT, a, a, x), None
    b = y.to(value.dtype)
    return _pulled(weight, a, b, x) if needs[0] else None, _pulled(weight.mT, b, a, y) if needs[1] else None


def _pulled(weight: Tensor, mine: Tensor, theirs: Tensor, like: Tensor) -> Tensor:
    """The sums of w_ij (x_i - y_j) over j."""
    return (weight.sum(-1, keepdim=True) * mine - weight @ theirs).to(like.dtype)


kernel_rule(
    "triton/similarity", _gradients, widened(reference.similarity), finish=_finish, compiled="formula", empty=_empty
)


def similarity(x: Tensor, y: Maybe, relation: str, gamma: float = 1.0) -> Tensor:
    """A relation of all pairs: ``reference.similarity``. float32 for 16-bit inputs."""
    fit(x, y)
    if relation not in RELATIONS:
        return _blocked.OPERATIONS["similarity"](x, y, relation)  # type: ignore[no-any-return]
    return apply("triton/similarity", (relation, gamma), x, y)
