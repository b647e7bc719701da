"""Class scores: correlation of rows and of columns."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.logits import dist
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """Both terms at weight 1."""
    return dist(student.logits, teacher.logits)


CASES = [method("dist", "logits", total)]
