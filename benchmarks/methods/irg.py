"""Samples: distances at three depths, and the change between maps."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, mse_loss

from benchmarks.method import map_pairs, method
from benchmarks.official.samples import irg_edges
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def change(maps: Mapping[str, Tensor]) -> Tensor:
    """How far each sample moves from map to map, over the largest."""
    lower, upper = maps.values()
    lower = adaptive_avg_pool2d(lower, upper.shape[2:])
    upper = upper.unflatten(1, (lower.shape[1], -1)).mean(2)
    moved = (lower - upper).flatten(1).square().sum(1)
    return moved / moved.max()


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """Vertices at 0.1, edges at 5 / 3 each, transformation at 5."""
    pairs = [(student.logits, teacher.logits), (student.embedding, teacher.embedding)]
    maps = list(map_pairs(student, teacher))
    edges = [mse_loss(irg_edges(s), irg_edges(t)) for s, t in (*pairs[1:], *maps)]
    loss = 0.1 * mse_loss(*pairs[0]) + 5 * torch.stack(edges).mean()
    return loss + 5 * mse_loss(change(student.maps), change(teacher.maps))


CASES = [method("irg", "embedding logits maps", total)]
