r"""EGA's edge and node sums from the same normalised rows and the same Gram matrices.

With J = [S + T, S - T] and the blocks P, Q, W of J'J, :math:`S^\top S = (P + Q + W + W^\top)/4`,
:math:`T^\top T = (P + Q - W - W^\top)/4`, and :math:`\lVert T S^\top - I \rVert^2 = \langle T^\top T, S^\top S \rangle
- 2 \sum_i \langle t_i, s_i \rangle + N`. The two sums have different upstream gradients, so the gradient, one product
of N x 2D by 2D x D, waits for them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.edge_square import formula_grams, own_edges
from graphkd_kernels._blocked.joined import Side
from graphkd_kernels._blocked.rows import map_rows, unmap_rows
from graphkd_kernels.autograd import Maybe, Needs, Options, Rule, apply, register
from graphkd_kernels.grams import Grams
from graphkd_kernels.plans.edges import ega_path


class EgaSums(Rule):
    """EGA's two sums. Options: (relation, path)."""

    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """The sums, and what their gradient is made of."""
        relation, path = options
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        if path == "pairs":
            (s, inverse_s), (t, inverse_t) = (map_rows(x, relation) for x in (student, teacher))
            edges, nodes = own_edges(s, t), (t @ s.mT)
            nodes.diagonal().sub_(1)
            value = torch.stack([edges.square().sum(), nodes.square().sum()])
            return value, (s, inverse_s, t, inverse_t, edges, nodes)
        side = Side(student.unsqueeze(0), teacher.unsqueeze(0), relation)
        grams = side.grams()
        value = torch.stack([grams.squares(grams), grams.identity(len(student))]).clamp_min(0)
        return value.to(student.dtype), (grams.p, grams.q, grams.w)

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        """One product for each network that needs a gradient."""
        relation, path = options
        if path == "pairs":
            return _by_pairs(relation, needs, upstream, kept)
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        p, q, w = kept
        assert p is not None
        assert q is not None
        assert w is not None
        edge, node = upstream.to(p.dtype).unbind()
        grams = Grams(p, q, w, True)
        factors = grams.factors(2)
        one = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)
        ours, theirs = grams.own()
        of_s = edge * factors[0] + node * torch.cat([theirs - one, theirs + one], -2)
        of_t = edge * factors[1] + node * torch.cat([ours - one, -ours - one], -2)
        side = Side(student.unsqueeze(0), teacher.unsqueeze(0), relation)
        found = side.gradients((of_s, of_t), (needs[0], needs[1]))
        return tuple(None if each is None else each.squeeze(0) for each in found)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The same path, differentiable."""
        relation, path = options
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        if path == "pairs":
            value: Tensor = reference.ega_sums(student, teacher, relation)
            return value
        grams = formula_grams(student, teacher, relation)
        return torch.stack([grams.squares(grams), grams.identity(len(student))]).to(student.dtype)


register("ega_sums", EgaSums())


def ega_sums(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    """Both sums, by the path that is less work."""
    return apply("ega_sums", (relation, ega_path(*student.shape)), student, teacher)


def _by_pairs(relation: str, needs: Needs, upstream: Tensor, kept: Sequence[Maybe]) -> tuple[Maybe, ...]:
    s, inverse_s, t, inverse_t, edges, nodes = kept
    assert s is not None
    assert t is not None
    assert edges is not None
    assert nodes is not None
    edge, node = (4 * upstream[0]) * edges, (2 * upstream[1]) * nodes
    of_s = unmap_rows((edge @ s).add_(node.mT @ t), s, inverse_s, relation) if needs[0] else None
    of_t = unmap_rows((node @ s).sub_(edge @ t), t, inverse_t, relation) if needs[1] else None
    return of_s, of_t
