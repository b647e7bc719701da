r"""PKT: affinities of rows as distributions, compared.

With :math:`k_{ij} = (\cos(x_i, y_j) + 1) / 2` and q (student), p (teacher) its rows divided by their sums,

.. math:: L = \sum_{ij} p_{ij} \log \frac{p_{ij} + \epsilon}{q_{ij} + \epsilon}, \qquad \epsilon = 10^{-7}.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.precision import widened
from graphkd_kernels.reference.rows import safe_sqrt
from graphkd_kernels.reference.similarity import Nodes, Targets, similarity

__all__ = ["edge_pkt"]
PKT_EPS = 1e-7


def pkt_rows(x: Nodes) -> Nodes:
    """Rows divided by their length and PKT's epsilon; a zero row stays zero."""
    length = safe_sqrt(x.square().sum(-1, keepdim=True))
    return torch.where(length == 0, 0.0, x / (length + PKT_EPS))


def distributions(x: Nodes, y: Targets) -> Float[Tensor, "*b n m"]:
    """(x y' + 1) / 2 of scaled rows, divided by the sums of its rows."""
    kernel = ((similarity(x, y, "gram") + 1) / 2).clamp_min(0)
    total = kernel.sum(-1, keepdim=True)
    return kernel / torch.where(total == 0, 1.0, total)


@widened
def edge_pkt(xs: Nodes, ys: Targets, xt: Nodes, yt: Targets) -> Float[Tensor, ""]:
    """Sum of p log((p + 1e-7) / (q + 1e-7)), with q (student) and p rows of (cosine + 1) / 2 that sum to 1 (PKT)."""
    q, p = (distributions(pkt_rows(x), None if y is None else pkt_rows(y)) for x, y in ((xs, ys), (xt, yt)))
    return (p * ((p + PKT_EPS) / (q + PKT_EPS)).log()).sum()
