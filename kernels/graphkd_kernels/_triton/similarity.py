"""``similarity``: matrices that the caller wants whole; the relation is the epilogue of the product's tiles.

Distances of all types, and inner products of 16-bit rows: of the rows as they are for "gram" and "cosine", exact, with
both lengths applied afterwards; of centred rows in two terms for "pearson". Inner products of float32 rows are left to
the vendor's matrix product: as fast as ours, gradients free.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import _blocked, reference
from graphkd_kernels._triton import terms
from graphkd_kernels._triton.configs import MATHS, math, math_of_distances, padded, pick, square
from graphkd_kernels._triton.edge_tiles import OTHERS, RELATIONS, centred, distances, pulled, split
from graphkd_kernels._triton.grams import product
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.node_blocks import common, flat
from graphkd_kernels._triton.rows import normalise, normalise_backward
from graphkd_kernels._triton.terms import row_products
from graphkd_kernels._triton.tiles import COUNTS, load
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, apply
from graphkd_kernels.plans import INNER
from graphkd_kernels.precision import HALF, wide, widened

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


@triton.jit
def _weight(v_ptr, up_ptr, row, column, n, m, up_row, up_column, gamma, gamma_rest, RELATION: tl.constexpr):
    """Derivatives of a tile in the squared distances, twice; 0 between equal rows, whose distance has none."""
    keep = (row < n)[:, None] & (column < m)[None, :]
    value = load(v_ptr, row, column, n, m, m)
    place = row.to(tl.int64)[:, None] * up_row + column.to(tl.int64)[None, :] * up_column
    up = tl.load(up_ptr + place, mask=keep, other=0.0).to(value.dtype)
    if RELATION == 1:
        up = tl.where(value == 0, 0.0, up / tl.where(value == 0, 1.0, value))
    elif RELATION == 2:
        up = 2.0 * up
    else:
        up = -2.0 * (tl.zeros([1, 1], value.dtype) + gamma + gamma_rest) * value * up
    return up


@triton.jit(do_not_specialize=COUNTS)
def similarity_weights_kernel(
    v_ptr, up_ptr, w_ptr, turned_ptr, n, m, tiles_n, tiles_m, w_row, turned_row, up_batch, up_row, up_column,
    gamma, gamma_rest, RELATION: tl.constexpr, ONE_SET: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Weights w (b, n, w_row) of x_i - y_j from values and their upstream gradient, and turned (b, m, turned_row).

    Each where wanted. ONE_SET: those of both orientations of a pair together.
    """
    batch, index = (tl.program_id(0) // (tiles_n * tiles_m)).to(tl.int64), tl.program_id(0) % (tiles_n * tiles_m)
    row, column = (index // tiles_m) * ROWS + tl.arange(0, ROWS), (index % tiles_m) * ROWS + tl.arange(0, ROWS)
    v_ptr, up_ptr = v_ptr + batch * n * m, up_ptr + batch * up_batch
    w = _weight(v_ptr, up_ptr, row, column, n, m, up_row, up_column, gamma, gamma_rest, RELATION)
    if ONE_SET:
        w += _weight(v_ptr, up_ptr, column, row, n, m, up_row, up_column, gamma, gamma_rest, RELATION).T
    keep = (row < n)[:, None] & (column < m)[None, :]
    if w_ptr is not None:
        tl.store(w_ptr + (batch * n + row)[:, None] * w_row + column[None, :], w, mask=keep)
    if turned_ptr is not None:
        tl.store(turned_ptr + (batch * m + column)[None, :] * turned_row + row[:, None], w, mask=keep)


def _gradients(needs: Needs, x: Tensor, y: Maybe, relation: str, gamma: float) -> Found:
    """The value; with the rows and where they are close, it is all that the gradient needs."""
    dtype, device = wide(common(x, y)), x.device
    how = math_of_distances(dtype)
    nodes = centred(flat(x), None if y is None else flat(y), gamma, how)
    a, b = nodes.a[0], nodes.b[0]
    (count, n, width), m = a.shape, b.shape[1]
    out, config = empty((count, n, m), dtype, device), pick("distances", how, device)
    tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
    close = empty((count, tiles_n, tiles_m), torch.int32, device)
    launch(
        similarity_kernel, (count * tiles_n * tiles_m,), config, how, a_ptr=a, b_ptr=b,
        size_a_ptr=nodes.size_a, size_b_ptr=nodes.size_b, out_ptr=out, close_ptr=close, n=n, m=m,
        own=OTHERS if y is not None else 0, width=width, tiles_n=tiles_n, tiles_m=tiles_m, a_row=a.stride(1),
        b_row=b.stride(1), **split("gamma", gamma), RELATION=RELATIONS[relation], TINY=how.tiny, CLOSE=how.close,
    )  # fmt: skip
    value = out.view(*x.shape[:-1], m)
    return value, (value, close, a, b)


def _empty(x: Tensor, y: Maybe, *options: object) -> Tensor:
    return x.new_empty(*x.shape[:-1], (x if y is None else y).shape[-2], dtype=wide(common(x, y)))


def _finish(
    needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Maybe], kept: tuple[Tensor, ...], relation: str, gamma: float
) -> Kept:
    (x, y), (value, close, a, b) = tensors, kept
    up, (n, m), count = flat(upstream), value.shape[-2:], len(close)
    w_row, turned_row = padded(m), padded(n)  # aligned, or the assembler spills in what reads them
    weight = empty((count, n, w_row), value.dtype, value.device) if needs[0] else None
    turned = empty((count, m, turned_row), value.dtype, value.device) if needs[1] and y is not None else None
    config = square(64 if value.dtype == torch.float32 else 32)
    tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.rows)
    launch(
        similarity_weights_kernel, (count * tiles_n * tiles_m,), config, math(value.dtype), v_ptr=value, up_ptr=up,
        w_ptr=weight, turned_ptr=turned, n=n, m=m, tiles_n=tiles_n, tiles_m=tiles_m, w_row=w_row,
        turned_row=turned_row, up_batch=up.stride(0), up_row=up.stride(1), up_column=up.stride(2),
        **split("gamma", gamma), RELATION=RELATIONS[relation], ONE_SET=y is None,
    )  # fmt: skip
    if y is None:
        return None if weight is None else _pulled(weight, close + close.mT, a, a, x), None
    of_y = None if turned is None else _pulled(turned, close.mT.contiguous(), b, a, y)
    return None if weight is None else _pulled(weight, close, a, b, x), of_y


def _pulled(weight: Tensor, close: Tensor, mine: Tensor, theirs: Tensor, like: Tensor) -> Tensor:
    """The sums of w_ij (x_i - y_j) over j."""
    found = pulled(weight, close, mine, theirs, math_of_distances(weight.dtype))
    return found[..., : like.shape[-1]].reshape(like.shape).to(like.dtype)


kernel_rule(
    "triton/similarity", _gradients, widened(reference.similarity), finish=_finish, compiled="formula", empty=_empty
)


@triton.jit
def inner_kernel(
    a_ptr, b_ptr, scale_a_ptr, scale_b_ptr, out_ptr, n, m, width, tiles_n, tiles_m,
    a_step, b_step, a_batch, b_batch, a_row, b_row, SCALED: tl.constexpr, TERMS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Inner products of rows a (TERMS, b, n, width) and b (TERMS, b, m, width) to out (b, n, m).

    SCALED: each times the numbers of its two rows.
    """
    pid = tl.program_id(0)
    batch, index = (pid // (tiles_n * tiles_m)).to(tl.int64), pid % (tiles_n * tiles_m)
    row, col = (index // tiles_m) * ROWS + tl.arange(0, ROWS), (index % tiles_m) * COLUMNS + tl.arange(0, COLUMNS)
    a_ptr, b_ptr = a_ptr + batch * a_batch, b_ptr + batch * b_batch
    value = row_products(
        a_ptr, b_ptr, row, col, n, m, width, a_step, b_step, a_row, b_row, TERMS, BK, PRECISION, UPCAST, SUMS
    )
    if SCALED:
        scale_a = tl.load(scale_a_ptr + batch * n + row, mask=row < n, other=0.0)
        scale_b = tl.load(scale_b_ptr + batch * m + col, mask=col < m, other=0.0)
        value = value * scale_a[:, None] * scale_b[None, :]
    keep = (row < n)[:, None] & (col < m)[None, :]
    tl.store(out_ptr + (batch * n + row)[:, None] * m + col[None, :], value, mask=keep)


def _inner_gradients(needs: Needs, x: Tensor, y: Maybe, relation: str) -> Found:
    """The value; for the gradient mapped rows of both sets, and their statistics."""
    how = math(x.dtype)
    nodes = [flat(each) for each in (x, y) if each is not None]
    rows = [normalise(each, None, relation, how) for each in nodes]
    raw = relation != "pearson"
    kind = MATHS["bf16"] if raw else how
    operands = [each.unsqueeze(0) for each in nodes] if raw else [each.z for each in rows]
    a, b = (each if each.stride(-1) == 1 else each.contiguous() for each in (operands[0], operands[-1]))
    (_, count, n, width), m = a.shape, b.shape[2]
    config = pick("inner", kind, x.device, count * n * m)
    tiles_n, tiles_m = triton.cdiv(n, config.rows), triton.cdiv(m, config.columns)
    out = empty((count, n, m), torch.float32, x.device)
    scales = [None if each.statistics is None else each.statistics[1] for each in rows]
    launch(
        inner_kernel, (count * tiles_n * tiles_m,), config, kind, a_ptr=a, b_ptr=b,
        scale_a_ptr=scales[0], scale_b_ptr=scales[-1], out_ptr=out, n=n, m=m,
        width=width, tiles_n=tiles_n, tiles_m=tiles_m, a_step=a.stride(0), b_step=b.stride(0), a_batch=a.stride(1),
        b_batch=b.stride(1), a_row=a.stride(2), b_row=b.stride(2), SCALED=relation == "cosine",
    )  # fmt: skip
    kept = [each for row in rows for each in (row.z, row.statistics)]
    return out.view(*x.shape[:-1], m), tuple(kept)


def _inner_finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Maybe], kept: Kept, relation: str) -> Kept:
    (x, y), weight, how = tensors, flat(upstream).contiguous(), math(tensors[0].dtype)

    def of(x: Tensor, weight: Tensor, others: Maybe, statistics: Maybe) -> Tensor:
        assert others is not None
        weights = terms.split(weight, how.terms).planes
        return normalise_backward(product(weights, others, how), x, statistics, relation, None)

    if y is None:
        return of(x, weight + weight.mT, *kept), None
    of_y = of(y, weight.mT.contiguous(), kept[0], kept[3]) if needs[1] else None
    return of(x, weight, kept[2], kept[1]) if needs[0] else None, of_y


_truth = widened(reference.similarity)
kernel_rule("triton/inner", _inner_gradients, _truth, finish=_inner_finish, compiled="formula", empty=_empty)


def similarity(x: Tensor, y: Maybe, relation: str, gamma: float = 1.0) -> Tensor:
    """A relation of all pairs: ``reference.similarity``. float32 for 16-bit inputs."""
    fit(x, y)
    if relation in INNER and x.dtype in HALF and (y is None or y.dtype == x.dtype):
        return apply("triton/inner", (relation,), x, y)
    if relation not in RELATIONS:
        return _blocked.OPERATIONS["similarity"](x, y, relation)  # type: ignore[no-any-return]
    return apply("triton/similarity", (relation, gamma), x, y)
