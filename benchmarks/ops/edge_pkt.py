"""PKT's divergence of similarities, summed over rows: n x d."""

from torch import Tensor

from benchmarks.case import Case, Function, op, pair
from benchmarks.official.samples import pkt
from benchmarks.peers import torchdistill_pkt


def scaled() -> Function:
    """The peer's mean over all pairs as a sum."""
    loss = torchdistill_pkt()

    def call(student: Tensor, teacher: Tensor) -> Tensor:
        return len(student) ** 2 * loss(student, teacher)

    return call


CASES = [
    Case(
        "edge_pkt",
        ((256, 512), (2048, 512)),
        pair,
        lambda s, t: op("edge_pkt")(s, None, t, None),
        lambda s, t: len(s) ** 2 * pkt(s, t),
        lambda n, d: (8 * n * n * d, 5 * n * d),
        near={1: 0},
        peers={"torchdistill": scaled},
    )
]
