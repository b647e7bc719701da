"""Class scores: Hinton's divergence."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.logits import kd
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At temperature 4 and weight 0.9."""
    return 0.9 * kd(student.logits, teacher.logits)


CASES = [method("kd", "logits", total)]
