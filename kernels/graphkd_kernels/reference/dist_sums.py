r"""DIST from class scores: what samples, and what classes, lack of a correlation of 1.

.. math::
    L_{inter} = \sum_i 1 - r(p_{i\cdot}, q_{i\cdot}), \qquad L_{intra} = \sum_c 1 - r(p_{\cdot c}, q_{\cdot c}), \qquad
    p = \mathrm{softmax}(s / T), \quad q = \mathrm{softmax}(t / T)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.reference.row_pearson import damped_column_pearson, damped_row_pearson

__all__ = ["dist_sums"]


def dist_sums(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], temperature: float = 1.0, eps: float = 1e-8
) -> Float[Tensor, " 2"]:
    """DIST's two sums: over samples, and over classes; eps stands beside the lengths."""
    p, q = ((each / temperature).softmax(-1) for each in (student, teacher))
    parts = damped_row_pearson(p, q, eps), damped_column_pearson(p, q, eps)
    return torch.stack([(1 - each).sum() for each in parts])
