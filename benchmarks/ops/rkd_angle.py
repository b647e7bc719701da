"""RKD's angle term, summed over all triples: n x d."""

from benchmarks.case import Case, op, pair
from benchmarks.official.samples import rkd_angle

CASES = [
    Case(
        "rkd_angle",
        ((64, 512), (256, 512)),
        pair,
        op("rkd_angle"),
        rkd_angle,
        lambda n, d: (12 * n * n * d + 26 * n**3, 3 * n * d + 6 * n * n),
        near={1: 0},
        long=((512, 512),),
        check_at=lambda shape: (min(shape[0], 256), shape[1]),
        sweeps={"N": tuple((n, 128) for n in (64, 128, 256, 512, 1024))},
    )
]
