"""Edges to class proxies as distributions: n samples, c classes, width d."""

from torch import Tensor

from benchmarks.case import Case, op, random
from benchmarks.official.samples import edge_kl


def inputs(n: int, c: int, d: int) -> tuple[Tensor, ...]:
    """Samples and proxies of the student, then of the teacher."""
    return random(n, d), random(c, d, seed=1), random(n, d, seed=2), random(c, d, seed=3)


CASES = [
    Case(
        "edge_kl",
        ((256, 100, 512), (4096, 1000, 512)),
        inputs,
        lambda *nodes: op("edge_kl")(*nodes, "cosine", 0.1),
        lambda *nodes: edge_kl(*nodes, 0.1),
        lambda n, c, d: (8 * n * c * d, 3 * n * d + 3 * c * d),
        students=2,
        near={2: 0, 3: 1},
        long=((8192, 1000, 512),),
        sweeps={
            "N": tuple((n, 1000, 256) for n in (64, 256, 1024, 4096, 8192, 16384, 32768, 65536)),
            "C": tuple((1024, c, 256) for c in (64, 256, 1024, 4096, 16384)),
        },
    )
]
