"""KD and RKD together."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.logits import kd
from benchmarks.official.samples import rkd_angle, rkd_distance
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """RKD at half its weight."""
    s, t = student.embedding, teacher.embedding
    rkd = 25 * rkd_distance(s, t) + 50 * rkd_angle(s, t) / len(s) ** 3
    return 0.9 * kd(student.logits, teacher.logits) + 0.5 * rkd


CASES = [
    method("combined", "embedding logits", total, options={"parts": {"kd": {}, "rkd": {}}, "weights": {"rkd": 0.5}})
]
