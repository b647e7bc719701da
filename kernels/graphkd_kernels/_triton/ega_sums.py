r"""``ega_sums``: EGA's two sums from one set of mapped rows and one set of Gram matrices.

.. math::
    L_{edge} = \lVert S S^\top - T T^\top \rVert^2, \qquad
    L_{node} = \lVert T S^\top - I \rVert^2 = \langle T^\top T, S^\top S \rangle - 2 \sum_i \langle t_i, s_i \rangle + N

With Z = [U V], U = (S + T) / sqrt(2), V = (S - T) / sqrt(2), and G = Z'Z: S = Z C and T = Z D with
C = [I; I] / sqrt(2), D = [I; -I] / sqrt(2). L_edge = <G, J G J> (``grams.combine_kernel``). G holds the node sum too:
S'S = C'GC, T'T = D'GD, sum <t_i, s_i> = (tr P - tr Q) / 2, and its gradient in S is Z (2 C T'T - 2 D).

The kernels, in their order: ``rows.rows_fwd_kernel`` (S, T to Z), ``grams.gram_kernel`` (G), ``grams.combine_kernel``,
``grams.product_kernel`` (Z M, both gradients), ``rows.rows_bwd_kernel``.
"""

import torch
from torch import Tensor

from graphkd_kernels import _blocked
from graphkd_kernels._triton.configs import math
from graphkd_kernels._triton.edge_sum import columns_pay, edge_sum
from graphkd_kernels._triton.grams import combine, gram, product, whole
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.node_blocks import common
from graphkd_kernels._triton.rows import normalise, normalise_backward, padded
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, apply
from graphkd_kernels.plans import INNER
from graphkd_kernels.precision import wide

__all__ = ["ega_sums"]


def _gradients(needs: Needs, student: Tensor, teacher: Tensor, relation: str) -> Found:
    """Both sums, and for each of student and teacher the gradients of both in its mapped rows."""
    dtype, d = common(student, teacher), padded(student.shape[1])
    how = math(dtype)
    x = normalise(student[None], teacher[None], relation, how, "uv")
    grams = gram(x.z, how)
    edges, factor = combine(grams, grams, d, True, how, 2 * d if needs[1] else d if needs[0] else 0, 4.0)
    g = whole(grams)
    p, q, w = g[:, :d, :d], g[:, d:, d:], g[:, :d, d:]
    of_s, of_t = (p + q + w + w.mT) / 2, (p + q - w - w.mT) / 2
    along = (p - q).diagonal(dim1=1, dim2=2).sum()
    nodes = (of_s * of_t).sum() - along + len(student)
    kept: list[Maybe] = [None] * 4
    eye = torch.eye(d, dtype=torch.float64, device=student.device).expand_as(p)
    for which, other, sign in ((0, of_t, 1), (1, of_s, -1)):
        if needs[which] and factor is not None:
            node = torch.cat([other - eye, sign * (other + eye)], 1).mul_(2**0.5).to(how.storage)
            both = product(x.z, torch.cat([factor[..., which * d : (which + 1) * d], node], 2), how)
            kept[2 * which : 2 * which + 2] = both[..., :d], both[..., d:]
    value = torch.stack([edges, nodes]).clamp_min(0).to(wide(dtype))
    return value, (*kept, *x.statistics[0], *x.statistics[1])


def _finish(needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: Kept, relation: str) -> Kept:
    found: list[Maybe] = [None, None]
    for k, x in enumerate(tensors):
        edges, nodes = kept[2 * k : 2 * k + 2]
        if edges is not None and nodes is not None:
            g = upstream[0] * edges + upstream[1] * nodes
            found[k] = normalise_backward(g, x[None], (kept[4 + 2 * k], kept[5 + 2 * k]), relation, x.dtype)[0]
    return tuple(found)


kernel_rule("triton/ega_sums", _gradients, _blocked.OPERATIONS["ega_sums"], finish=_finish)


def ega_sums(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    """EGA's sum of the edges and of the nodes against the identity, (2,): ``reference.ega_sums``."""
    fit(student, teacher)
    n, d = student.shape
    if relation in INNER and columns_pay(n, n, d) and not torch.compiler.is_compiling():
        return apply("triton/ega_sums", (relation,), student, teacher)
    edges = edge_sum(student, None, teacher, None, relation, "square")
    return torch.stack([edges, _blocked.OPERATIONS["node_sum"](student, teacher, relation, "identity")])
