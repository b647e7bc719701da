"""EGA's two sums from one set of mapped rows and one set of Gram matrices.

With Z = [U V], G = Z'Z, S = Z C and T = Z D (C = [I; I] / sqrt(2), D = [I; -I] / sqrt(2)), G holds the node sum:
S'S = C'GC, T'T = D'GD, sum <t_i, s_i> = (tr P - tr Q) / 2, and its gradient in S is Z (2 C T'T - 2 D).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from graphkd_kernels import _blocked, autograd
from graphkd_kernels._triton.cases import Case
from graphkd_kernels._triton.configs import math
from graphkd_kernels._triton.edge_sum import KINDS, Found, columns_pay, common, edge_sum
from graphkd_kernels._triton.grams import combine, gram, product, whole
from graphkd_kernels._triton.library import KernelRule, fit, register, wide
from graphkd_kernels._triton.node_sum import node_sum
from graphkd_kernels._triton.rows import normalise, normalise_backward, padded
from graphkd_kernels.autograd import Maybe, Needs, Options


class EGASums(KernelRule):
    """options: relation; tensors: student, teacher of one width. float32 operands for 16-bit inputs."""

    def compute(self, options: Options, needs: Needs, *tensors: Maybe) -> Found:
        """Both sums, and for each of student and teacher the gradients of both in its mapped rows."""
        (student, teacher), (relation,) = tensors, options
        assert student is not None
        assert teacher is not None
        dtype = wide(common(student, teacher))
        how, d = math(dtype), padded(student.shape[1])
        x = normalise(student[None], teacher[None], KINDS[relation], how, "uv")
        grams = gram(x.z, how)
        edges, factor = combine(grams, grams, d, True, how, 2 * d if needs[1] else d if needs[0] else 0, 4.0)
        g = whole(grams)
        p, q, w = g[:, :d, :d], g[:, d:, d:], g[:, :d, d:]
        of_s, of_t = (p + q + w + w.mT) / 2, (p + q - w - w.mT) / 2
        along = (p - q).diagonal(dim1=1, dim2=2).sum()
        nodes = (of_s * of_t).sum() - along + len(student)
        kept: list[Maybe] = []
        eye = torch.eye(d, dtype=torch.float64, device=student.device).expand_as(p)
        for need, part, other, sign in ((needs[0], slice(0, d), of_t, 1), (needs[1], slice(d, 2 * d), of_s, -1)):
            if need and factor is not None:
                node = torch.cat([other - eye, sign * (other + eye)], 1).mul_(2**0.5).to(how.storage)
                both = product(x.z, torch.cat([factor[..., part], node], 2), how)
                kept += [both[..., :d], both[..., d:]]
            else:
                kept += [None, None]
        value = torch.stack([edges, nodes]).clamp_min(0).to(dtype)
        return value, (*kept, x.mean, x.scale, x.mean_t, x.scale_t)

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        found: list[Maybe] = [None, None]
        for k, x in enumerate(tensors):
            edges, nodes = kept[2 * k : 2 * k + 2]
            if needs[k] and x is not None and edges is not None and nodes is not None:
                g = upstream[0] * edges + upstream[1] * nodes
                mean, scale = kept[4 + 2 * k : 6 + 2 * k]
                found[k] = normalise_backward(g, x[None], mean, scale, KINDS[options[0]])[0]
        return tuple(found)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        value: Tensor = _blocked.OPERATIONS["ega_sums"](*tensors, options[0])
        return value


def ega_sums(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    """EGA's sum of the edges and of the nodes against the identity, (2,); see reference.ega_sums."""
    fit(student, teacher)
    n, d = student.shape
    if relation in KINDS and columns_pay(n, n, d) and not torch.compiler.is_compiling():
        return autograd.apply("triton_ega_sums", (relation,), student, teacher)
    edges = edge_sum(student, None, teacher, None, relation, "square")
    return torch.stack([edges, node_sum(student, teacher, relation, "identity")])


register("triton_ega_sums", EGASums())
OPERATIONS = {"ega_sums": ega_sums}
CASES = [Case("triton_ega_sums", ("pearson",), ((8192, 512), (8192, 512)), (True, False))]
