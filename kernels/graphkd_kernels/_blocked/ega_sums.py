r"""``ega_sums``: EGA's edge and node sums from the same normalised rows and the same Gram matrices.

With J = [S + T, S - T] and the blocks P, Q, W of J'J, :math:`S^\top S = (P + Q + W + W^\top)/4`,
:math:`T^\top T = (P + Q - W - W^\top)/4`, and :math:`\lVert T S^\top - I \rVert^2 = \langle T^\top T, S^\top S \rangle
- 2 \sum_i \langle t_i, s_i \rangle + N`. The two sums have different upstream gradients, so the gradient, one product
of N x 2D by 2D x D, waits for them.
"""

from typing import Any

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.edge_sum import own_edges
from graphkd_kernels._blocked.joint_rows import JointRows, formula_grams
from graphkd_kernels._blocked.rows import map_rows, unmap_rows
from graphkd_kernels.autograd import Found, Kept, Needs, Rule, apply, register
from graphkd_kernels.grams import Grams
from graphkd_kernels.plans import ega_path

__all__ = ["ega_sums"]


def _gradients(needs: Needs, student: Tensor, teacher: Tensor, relation: str, path: str) -> Found:
    """The sums, and what their gradient is made of."""
    if path == "pairs":
        (s, inverse_s), (t, inverse_t) = (map_rows(x, relation) for x in (student, teacher))
        edges, nodes = own_edges(s, t), (t @ s.mT)
        nodes.diagonal().sub_(1)
        value = torch.stack([edges.square().sum(), nodes.square().sum()])
        return value, (s, inverse_s, t, inverse_t, edges, nodes)
    grams = JointRows(student, teacher, relation).grams()
    value = torch.stack([grams.squares(grams), grams.identity(len(student))]).clamp_min(0)
    return value.to(student.dtype), (grams.p, grams.q, grams.w)


def _finish(
    needs: Needs, upstream: Tensor, tensors: tuple[Tensor, Tensor], kept: tuple[Any, ...], relation: str, path: str
) -> Kept:
    """One product for each network that needs a gradient."""
    if path == "pairs":
        s, inverse_s, t, inverse_t, edges, nodes = kept
        edge, node = (4 * upstream[0]) * edges, (2 * upstream[1]) * nodes
        of_s = unmap_rows((edge @ s).add_(node.mT @ t), s, inverse_s, relation) if needs[0] else None
        of_t = unmap_rows((node @ s).sub_(edge @ t), t, inverse_t, relation) if needs[1] else None
        return of_s, of_t
    p, q, w = kept
    grams = Grams(p, q, w, True)
    edge, node = upstream.to(grams.p.dtype).unbind()
    factors, (ours, theirs) = grams.factors(2), grams.own()
    one = torch.eye(ours.shape[-1], dtype=ours.dtype, device=ours.device)
    of_s = edge * factors[0] + node * torch.cat([theirs - one, theirs + one], -2)
    of_t = edge * factors[1] + node * torch.cat([ours - one, -ours - one], -2)
    return JointRows(*tensors, relation).gradients((of_s, of_t), needs)


def _formula(student: Tensor, teacher: Tensor, relation: str, path: str) -> Tensor:
    if path == "pairs":
        return reference.ega_sums(student, teacher, relation)
    grams = formula_grams(student, teacher, relation)
    return torch.stack([grams.squares(grams), grams.identity(len(student))]).to(student.dtype)


register("ega_sums", Rule(_gradients, _formula, _finish, empty=lambda s, *_: s.new_empty(2)))


def ega_sums(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    """Both sums, by the path that is less work."""
    return apply("ega_sums", (relation, ega_path(*student.shape)), student, teacher)
