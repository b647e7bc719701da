"""``similarity``: matrices that the caller wants whole; relations of distances from the product's tiles.

Inner products of mapped rows are left to the vendor's matrix product: as fast as ours, gradients free.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import _blocked, reference
from graphkd_kernels._triton.configs import math, pick
from graphkd_kernels._triton.edge_tiles import OTHERS, RELATIONS, centred, distances, pulled, split
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.node_blocks import common, flat
from graphkd_kernels._triton.tiles import COUNTS
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, apply
from graphkd_kernels.precision import wide, widened

__all__ = ["similarity"]


@triton.jit(do_not_specialize=COUNTS)
def similarity_kernel(
    a_ptr, b_ptr, size_a_ptr, size_b_ptr, out_ptr, close_ptr,
    n, m, own, width, tiles_n, tiles_m, a_row, b_row, gamma, gamma_rest,
    RELATION: tl.constexpr, TINY: tl.constexpr, CLOSE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Relation of distances of rows a (b, n, width) and b (b, m, width) to out (b, n, m); see ``distances``.

    To close (b, tiles_n, tiles_m), how many pairs of each tile are.
    """
    pid = tl.program_id(0)
    batch, index = (pid // (tiles_n * tiles_m)).to(tl.int64), pid % (tiles_n * tiles_m)
    row, col = (index // tiles_m) * ROWS + tl.arange(0, ROWS), (index % tiles_m) * COLUMNS + tl.arange(0, COLUMNS)
    value, _, close = distances(
        a_ptr + batch * n * a_row, b_ptr + batch * m * b_row, size_a_ptr + batch * n, size_b_ptr + batch * m,
        row, col, n, m, own, width, a_row, b_row, gamma, gamma_rest,
        RELATION, TINY, CLOSE, BK, PRECISION, UPCAST, SUMS,
    )  # fmt: skip
    tl.store(close_ptr + pid, close)
    keep = (row < n)[:, None] & (col < m)[None, :]
    tl.store(out_ptr + (batch * n + row)[:, None] * m + col[None, :], value, mask=keep)


def _gradients(needs: Needs, x: Tensor, y: Maybe, relation: str, gamma: float) -> Found:
    """The value; with the rows and where they are close, it is all that the gradient needs."""
    dtype, device = wide(common(x, y)), x.device
    how = math(dtype)
    nodes = centred(flat(x), None if y is None else flat(y), gamma, how)
    (count, n, width), m = nodes.a.shape, nodes.b.shape[1]
    out, config = empty((count, n, m), dtype, device), pick("distances", how, device)
    tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
    close = empty((count, tiles_n, tiles_m), torch.int32, device)
    launch(
        similarity_kernel, (count * tiles_n * tiles_m,), config, how, a_ptr=nodes.a, b_ptr=nodes.b,
        size_a_ptr=nodes.size_a, size_b_ptr=nodes.size_b, out_ptr=out, close_ptr=close, n=n, m=m,
        own=OTHERS if y is not None else 0, width=width, tiles_n=tiles_n, tiles_m=tiles_m, a_row=nodes.a.stride(1),
        b_row=nodes.b.stride(1), **split("gamma", gamma), RELATION=RELATIONS[relation], TINY=how.tiny, CLOSE=how.close,
    )  # fmt: skip
    value = out.view(*x.shape[:-1], m)
    return value, (value, close, nodes.a, nodes.b)


def _empty(x: Tensor, y: Maybe, *options: object) -> Tensor:
    return x.new_empty(*x.shape[:-1], (x if y is None else y).shape[-2], dtype=wide(common(x, y)))


def _finish(
    needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Maybe], kept: tuple[Tensor, ...], relation: str, gamma: float
) -> Kept:
    (x, y), (value, close, a, b) = tensors, kept
    if relation == "rbf":
        weight = -2 * gamma * value * upstream
    elif relation == "squared_euclidean":
        weight = 2 * upstream
    else:  # equal rows are at distance 0, without gradient
        weight = torch.where(value == 0, 0.0, upstream / torch.where(value == 0, 1.0, value))
    weight = flat(weight).contiguous()
    if y is None:
        return _pulled(weight + weight.mT, close + close.mT, a, a, x), None
    of_y = _pulled(weight.mT.contiguous(), close.mT.contiguous(), b, a, y) if needs[1] else None
    return _pulled(weight, close, a, b, x) if needs[0] else None, of_y


def _pulled(weight: Tensor, close: Tensor, mine: Tensor, theirs: Tensor, like: Tensor) -> Tensor:
    """The sums of w_ij (x_i - y_j) over j."""
    found = pulled(weight, close, mine, theirs, math(weight.dtype))
    return found[..., : like.shape[-1]].reshape(like.shape).to(like.dtype)


kernel_rule(
    "triton/similarity", _gradients, widened(reference.similarity), finish=_finish, compiled="formula", empty=_empty
)


def similarity(x: Tensor, y: Maybe, relation: str, gamma: float = 1.0) -> Tensor:
    """A relation of all pairs: ``reference.similarity``. float32 for 16-bit inputs."""
    fit(x, y)
    if relation not in RELATIONS:
        return _blocked.OPERATIONS["similarity"](x, y, relation)  # type: ignore[no-any-return]
    return apply("triton/similarity", (relation, gamma), x, y)
