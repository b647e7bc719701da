"""Samples: Gaussian kernels."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.samples import cc
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 0.02."""
    return 0.02 * cc(student.embedding, teacher.embedding)


CASES = [method("cc", "embedding", total)]
