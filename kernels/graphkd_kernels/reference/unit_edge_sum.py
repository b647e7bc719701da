r"""SP and ICKD: Gram matrices with rows of unit length, compared.

.. math:: \sum_i \lVert g^S_i / |g^S_i| - g^T_i / |g^T_i| \rVert^2
"""

from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.precision import widened
from graphkd_kernels.reference.rows import unit_rows
from graphkd_kernels.reference.similarity import Nodes, Targets, similarity

__all__ = ["unit_edge_sum"]


@widened
def unit_edge_sum(xs: Nodes, ys: Targets, xt: Nodes, yt: Targets) -> Float[Tensor, ""]:
    """Squared difference of the two Grams, each with rows of unit length (SP, ICKD)."""
    student, teacher = (unit_rows(similarity(x, y, "gram")) for x, y in ((xs, ys), (xt, yt)))
    return (student - teacher).square().sum()
