"""Maps: products of the channels of two depths."""

from torch import Tensor

from benchmarks.method import method
from benchmarks.official.maps import fsp
from graphkd.distillers.base import Distiller
from graphkd.features import Features


def total(distiller: Distiller, student: Features, teacher: Features, target: Tensor) -> Tensor:
    """At weight 50."""
    return 50 * fsp(list(student.maps.values()), list(teacher.maps.values()))


CASES = [method("fsp", "maps", total)]
