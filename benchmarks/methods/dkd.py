"""Class scores: the label's share and the others apart."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.logits import dkd
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """Alpha 1, beta 8, temperature 4."""
    return dkd(student.logits, teacher.logits, target)


CASES = [method("dkd", "logits", total)]
