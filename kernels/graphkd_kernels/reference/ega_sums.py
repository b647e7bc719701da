r"""EGA: both sums of Embedding Graph Alignment, of one relation e.

.. math::
    L_{edge} = \sum_{ij} \bigl(e(s_i, s_j) - e(t_i, t_j)\bigr)^2, \qquad
    L_{node} = \sum_{ij} \bigl(e(t_i, s_j) - \delta_{ij}\bigr)^2
"""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.precision import widened
from graphkd_kernels.reference.edge_sum import edge_sum
from graphkd_kernels.reference.node_sum import node_sum

__all__ = ["ega_sums"]


@widened
def ega_sums(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], relation: str) -> Float[Tensor, " 2"]:
    """EGA's two sums: of the edges, and of the nodes against the identity."""
    edges = edge_sum(student, None, teacher, None, relation, "square")
    return torch.stack([edges, node_sum(student, teacher, relation, "identity")])
