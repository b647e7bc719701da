r"""``ega_sums``: EGA's two sums from one set of mapped rows and one set of Gram matrices.

.. math::
    L_{edge} = \lVert S S^\top - T T^\top \rVert^2, \qquad
    L_{node} = \lVert T S^\top - I \rVert^2 = \langle T^\top T, S^\top S \rangle - 2 \sum_i \langle t_i, s_i \rangle + N

With Z = [U V], U = (S + T) / sqrt(2), V = (S - T) / sqrt(2), and G = Z'Z: S = Z C and T = Z D with
C = [I; I] / sqrt(2), D = [I; -I] / sqrt(2). L_edge = <G, J G J>. G holds the node sum too:
S'S = C'GC, T'T = D'GD, sum <t_i, s_i> = (tr P - tr Q) / 2, and its gradient in S is Z (2 C T'T - 2 D).

The kernels, in their order: ``rows.rows_fwd_kernel`` (S, T to Z), ``grams.gram_kernel`` (G), ``ega_kernel`` (sums, M),
``terms.terms_product_kernel`` (Z M, both gradients), ``rows.rows_bwd_kernel``.
"""

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import _blocked
from graphkd_kernels._triton.configs import math, padded, square
from graphkd_kernels._triton.edge_sum import columns_pay, edge_sum
from graphkd_kernels._triton.grams import entry, gram, product
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import Math, empty, launch
from graphkd_kernels._triton.node_blocks import common
from graphkd_kernels._triton.rows import normalise, normalise_backward
from graphkd_kernels._triton.terms import store_terms
from graphkd_kernels._triton.tiles import COUNTS, added, last
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, apply
from graphkd_kernels.plans import INNER

__all__ = ["ega_sums"]
FEW = 2**32
"""Operations that cost less than the launches of the other way."""


@triton.jit(do_not_specialize=COUNTS)
def ega_kernel(
    g_ptr, m_ptr, out_ptr, count_ptr, value_ptr, n, d, width, m_step, tiles, splits,
    STUDENT: tl.constexpr, TEACHER: tl.constexpr, TERMS: tl.constexpr,
    ROWS: tl.constexpr, UPCAST: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Both sums, and M with which Z M are their gradients, from the Gram matrix [P W; W' Q] of [U V].

    M is (TERMS, 2 d, width), d columns each: edges and nodes in S where STUDENT, then those in T where TEACHER.
    """
    pid, programs = tl.program_id(0), tl.num_programs(0)
    a = ((pid // tiles) * ROWS + tl.arange(0, ROWS))[:, None]
    b = ((pid % tiles) * ROWS + tl.arange(0, ROWS))[None, :]
    keep, same = (a < d) & (b < d), a == b
    p, q = entry(g_ptr, splits, 2 * d, a, b, keep), entry(g_ptr, splits, 2 * d, a + d, b + d, keep)
    w, v = entry(g_ptr, splits, 2 * d, a, b + d, keep), entry(g_ptr, splits, 2 * d, a + d, b, keep)
    of_s, of_t = 0.5 * (p + q + (w + v)), 0.5 * (p + q - (w + v))
    node = tl.sum(of_s * of_t) - tl.sum(tl.where(same, p - q, 0.0))
    tl.store(out_ptr + pid, 2.0 * tl.sum(p * q + w * v))
    tl.store(out_ptr + programs + pid, node + tl.where(pid == 0, n, 0))
    if last(count_ptr, programs):
        tl.store(value_ptr, added(out_ptr, programs))
        tl.store(value_ptr + 1, added(out_ptr + programs, programs))
    one = tl.where(same, 1.0, 0.0)
    top = a.to(tl.int64) * width + b
    low = top + tl.cast(d, tl.int64) * width
    if STUDENT:
        edges, nodes = (q + v) * 2.8284271247461903, (of_t - one) * 1.4142135623730951
        store_terms(m_ptr, top, m_step, edges.to(SUMS), keep, TERMS, UPCAST)
        store_terms(m_ptr, top + d, m_step, nodes.to(SUMS), keep, TERMS, UPCAST)
        edges, nodes = (p + w) * 2.8284271247461903, (of_t + one) * 1.4142135623730951
        store_terms(m_ptr, low, m_step, edges.to(SUMS), keep, TERMS, UPCAST)
        store_terms(m_ptr, low + d, m_step, nodes.to(SUMS), keep, TERMS, UPCAST)
    if TEACHER:
        top, low = top + (width - 2 * d), low + (width - 2 * d)
        edges, nodes = (q - v) * 2.8284271247461903, (of_s - one) * 1.4142135623730951
        store_terms(m_ptr, top, m_step, edges.to(SUMS), keep, TERMS, UPCAST)
        store_terms(m_ptr, top + d, m_step, nodes.to(SUMS), keep, TERMS, UPCAST)
        edges, nodes = (w - p) * 2.8284271247461903, (of_s + one) * -1.4142135623730951
        store_terms(m_ptr, low, m_step, edges.to(SUMS), keep, TERMS, UPCAST)
        store_terms(m_ptr, low + d, m_step, nodes.to(SUMS), keep, TERMS, UPCAST)


def _sums(grams: Tensor, n: int, d: int, needs: Needs, count: Tensor, math: Math) -> tuple[Tensor, Tensor]:
    """Both sums (2,) and M (terms, 1, 2 d, width)."""
    # Four or eight warps spill with one or the other assembler.
    config, device, width = replace(square(32), warps=2), grams.device, 2 * d * sum(needs)
    tiles = triton.cdiv(d, config.rows)
    out, value = empty((2, tiles * tiles), torch.float64, device), empty((2,), math.sums, device)
    m = empty((math.terms, 1, 2 * d, width), math.storage, device)
    launch(
        ega_kernel, (tiles * tiles,), config, math, g_ptr=grams, m_ptr=m, out_ptr=out, count_ptr=count,
        value_ptr=value, n=n, d=d, width=width, m_step=m.stride(0), tiles=tiles, splits=grams.shape[1],
        STUDENT=needs[0], TEACHER=needs[1],
    )  # fmt: skip
    return value, m


def _gradients(needs: Needs, student: Tensor, teacher: Tensor, relation: str) -> Found:
    """Both sums, and for each of student and teacher the gradients of both in its mapped rows."""
    how, d = math(common(student, teacher)), padded(student.shape[1])
    x = normalise(student[None], teacher[None], relation, how, "uv")
    value, m = _sums(gram(x.z, how), len(student), d, needs, x.count, how)
    kept: list[Maybe] = [None] * 4
    if True in needs:
        both = product(x.z, m, how)
        for place, which in enumerate(k for k, need in enumerate(needs) if need):
            kept[2 * which : 2 * which + 2] = (
                both[..., 2 * place * d :][..., :d],
                both[..., (2 * place + 1) * d :][..., :d],
            )
    return value, (*kept, x.statistics)


def _finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: Kept, relation: str) -> Kept:
    found: list[Maybe] = [None, None]
    for k, x in enumerate(tensors):
        edges, nodes = kept[2 * k : 2 * k + 2]
        if edges is not None and nodes is not None:
            own = None if kept[4] is None else kept[4][2 * k : 2 * k + 2]
            found[k] = normalise_backward(edges, x, own, relation, upstream, second=nodes)
    return tuple(found)


kernel_rule("triton/ega_sums", _gradients, _blocked.OPERATIONS["ega_sums"], finish=_finish)


def ega_sums(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    """EGA's sum of the edges and of the nodes against the identity, (2,): ``reference.ega_sums``."""
    fit(student, teacher)
    n, d = student.shape
    columns = columns_pay(n, n, d) or 8 * n * d * d < FEW
    if relation in INNER and columns and not torch.compiler.is_compiling():
        return apply("triton/ega_sums", (relation,), student, teacher)
    edges = edge_sum(student, None, teacher, None, relation, "square")
    return torch.stack([edges, _blocked.OPERATIONS["node_sum"](student, teacher, relation, "identity")])
