"""Nodes that should find their own counterpart among those of all ranks."""

import torch

from graphkd import distributed, ops
from graphkd.graphs.alignments import CROSS_ENTROPY
from graphkd.typing import Float, Tensor


def contrast(
    nodes: Float[Tensor, "n d"], others: Float[Tensor, "n d"], sizes: tuple[int, ...], temperature: float
) -> Float[Tensor, ""]:
    r"""Each node should find its own other among those of all ranks,
    :math:`-\mathrm{mean}_i \log \mathrm{softmax}_j(\cos(x_i, y_j) / \tau)_i`.

    Args:
        nodes, others: those of this rank, one for one.
        sizes: of each rank.
        temperature: tau > 0.
    """
    first = distributed.first_row(sizes)
    everyone = distributed.gather(others, list(sizes))
    own = torch.arange(first, first + len(nodes), device=nodes.device)
    return CROSS_ENTROPY.reduce(ops.info_nce(nodes, everyone, own, "cosine", temperature), len(nodes), len(everyone))
