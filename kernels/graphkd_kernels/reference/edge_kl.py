r"""Edges that a softmax turns into distributions: their divergence, and the cross entropy of known positives.

With the edges :math:`e` of a row, :math:`q = \mathrm{softmax}(e^S / T)` and :math:`p = \mathrm{softmax}(e^T / T)`,

.. math:: \texttt{edge\_kl} = \sum_i \mathrm{KL}(p_i \Vert q_i), \qquad
    \texttt{info\_nce} = -\sum_i \log q_{i, \mathrm{positive}(i)}.
"""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from graphkd_kernels.precision import widened
from graphkd_kernels.reference.row_kl import row_kl
from graphkd_kernels.reference.similarity import Nodes, Targets, similarity

__all__ = ["edge_kl", "info_nce"]


@widened
def edge_kl(
    xs: Nodes, ys: Targets, xt: Nodes, yt: Targets, relation: str, temperature: float, gamma: float = 1.0
) -> Float[Tensor, ""]:
    """Sum over rows of KL(softmax(teacher's relations / T) || softmax(student's / T))."""
    student, teacher = (similarity(x, y, relation, gamma) for x, y in ((xs, ys), (xt, yt)))
    return row_kl(student, teacher, temperature).sum()


@widened
def info_nce(
    x: Nodes, y: Targets, positives: Int[Tensor, " n"], relation: str, temperature: float, gamma: float = 1.0
) -> Float[Tensor, ""]:
    """Sum over rows of -log softmax(relation / T) at the row's positive."""
    return cross_entropy(similarity(x, y, relation, gamma) / temperature, positives, reduction="sum")
