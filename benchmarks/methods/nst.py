"""Maps: discrepancy of the channels' patterns."""

import torch
from torch import Tensor

from benchmarks.method import map_pairs, method
from benchmarks.official.maps import nst
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 50, maps added."""
    return 50 * torch.stack([nst(s, t) for s, t in map_pairs(student, teacher)]).sum()


CASES = [method("nst", "maps", total)]
