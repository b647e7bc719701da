"""Samples: Gram matrices of maps with unit rows."""

import torch
from torch import Tensor

from benchmarks.method import map_pairs, method
from benchmarks.official.samples import sp
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 3000, maps added."""
    return 3000 * torch.stack([sp(s, t) for s, t in map_pairs(student, teacher)]).sum()


CASES = [method("sp", "maps", total)]
