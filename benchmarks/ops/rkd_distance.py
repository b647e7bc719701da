"""RKD's distance term: n x d."""

from benchmarks.case import Case, op, pair
from benchmarks.official.samples import rkd_distance
from benchmarks.peers import torchdistill_rkd

CASES = [
    Case(
        "rkd_distance",
        ((256, 512), (4096, 512)),
        pair,
        op("rkd_distance"),
        rkd_distance,
        lambda n, d: (4 * n * n * d, 5 * n * d),  # half of the pairs
        near={1: 0},
        peers={"torchdistill": lambda: torchdistill_rkd(1.0, 0.0)},
        sweeps={"N": tuple((n, 256) for n in (64, 256, 1024, 4096, 16384, 65536))},
    )
]
