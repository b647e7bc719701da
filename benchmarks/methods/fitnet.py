"""Maps: hints through the distiller's adapters."""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from benchmarks.method import map_pairs, method
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 100, maps added."""
    terms = [
        mse_loss(adapt(s), t) for adapt, (s, t) in zip(distiller.adapters, map_pairs(student, teacher), strict=True)
    ]
    return 100 * torch.stack(terms).sum()


CASES = [method("fitnet", "maps", total)]
