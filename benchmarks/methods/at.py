"""Maps: where their energy lies."""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from benchmarks.method import map_pairs, method
from benchmarks.official.maps import attention
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 1000, maps added."""
    return 1000 * torch.stack([mse_loss(attention(s), attention(t)) for s, t in map_pairs(student, teacher)]).sum()


CASES = [method("at", "maps", total)]
