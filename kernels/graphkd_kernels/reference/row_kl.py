r"""Divergence of corresponding rows as distributions.

.. math:: \mathrm{KL}(p \Vert q), \qquad p = \mathrm{softmax}(t / T), \quad q = \mathrm{softmax}(s / T)
"""

from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.reference.rows import expectation

__all__ = ["row_kl"]


def row_kl(
    student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], temperature: float = 1.0
) -> Float[Tensor, "*b n"]:
    """KL(softmax(teacher / T) || softmax(student / T)) of each row."""
    log_s = (student / temperature).log_softmax(-1)
    log_t = (teacher / temperature).log_softmax(-1)
    return expectation(log_t.exp(), log_t - log_s)
