"""Samples: distances and angles."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.samples import rkd_angle, rkd_distance
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """Distances at 25, the mean of the angles at 50."""
    s, t = student.embedding, teacher.embedding
    return 25 * rkd_distance(s, t) + 50 * rkd_angle(s, t) / len(s) ** 3


CASES = [method("rkd", "embedding", total)]
