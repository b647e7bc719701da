"""All of EGA from the same Grams: n x d."""

from torch import Tensor

from benchmarks.case import Case, op, pair
from benchmarks.official.samples import ega


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    """Both un-squared norms at the official class's weights."""
    edge, node = op("ega_sums")(student, teacher, "pearson").unbind()
    return node.sqrt() + 0.3 * edge.sqrt()


CASES = [
    Case(
        "ega_sums",
        ((256, 512), (4096, 512)),
        pair,
        ours,
        ega,
        lambda n, d: (min(8 * n * n * d, 12 * n * d * d), 5 * n * d),
        sweeps={"N": tuple((n, 256) for n in (64, 256, 1024, 4096, 8192, 16384, 32768, 65536))},
    )
]
