"""Samples: normalised cosine graphs of maps."""

import torch
from torch import Tensor

from benchmarks.method import map_pairs, method
from benchmarks.official.samples import adjacency
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 25, mean over maps."""
    terms = [(adjacency(s) - adjacency(t)).square().sum() for s, t in map_pairs(student, teacher)]
    return 25 * torch.stack(terms).mean()


CASES = [method("gkd", "maps", total)]
