"""Nodes that should find their own counterpart among those of all ranks."""

from functools import partial

import torch

from graphkd import distributed, ops
from graphkd.graphs.alignments import CROSS_ENTROPY
from graphkd.ring import forms
from graphkd.ring.pairs import Pairs, itself
from graphkd.ring.travel import Rows
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
    if distributed.too_large_to_gather(sizes, others):
        value = forms.contrast(Pairs((nodes,), (others,), sizes, partial(_scores, temperature), first))
        return CROSS_ENTROPY.reduce(value, len(nodes), sum(sizes))
    everyone = distributed.gather(others, list(sizes))
    own = torch.arange(first, first + len(nodes), device=nodes.device)
    return CROSS_ENTROPY.reduce(ops.info_nce(nodes, everyone, own, "cosine", temperature), len(nodes), len(everyone))


def _scores(temperature: float, own: Rows, theirs: Rows, first: int, start: int) -> Rows:
    scores = ops.similarity(own[0], theirs[0], "cosine") / temperature
    return scores, torch.where(itself(own[0], theirs[0], first, start), scores, 0.0)
