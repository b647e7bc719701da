"""Samples: similarities as distributions."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.samples import pkt
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 30000."""
    return 30000 * pkt(student.embedding, teacher.embedding)


CASES = [method("pkt", "embedding", total)]
