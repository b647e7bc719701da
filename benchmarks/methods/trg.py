"""Tokens of a batch as one graph."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.maps import trg
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """All three terms at weight 1."""
    return trg(*student.tokens.values(), *teacher.tokens.values())


CASES = [method("trg", "tokens", total)]
