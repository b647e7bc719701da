"""Maps: Gram matrices of channels through the distiller's adapters."""

import torch
from torch import Tensor

from benchmarks.method import map_pairs, method
from benchmarks.official.maps import ickd
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 2.5, maps added."""
    terms = [ickd(adapt(s), t) for adapt, (s, t) in zip(distiller.adapters, map_pairs(student, teacher), strict=True)]
    return 2.5 * torch.stack(terms).sum()


CASES = [method("ickd", "maps", total)]
