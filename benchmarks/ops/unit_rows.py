"""Rows scaled to unit length: n x d."""

from torch.nn.functional import normalize

from benchmarks.case import Case, op, random

CASES = [
    Case(
        "unit_rows",
        ((256, 512), (8192, 512)),
        lambda n, d: (random(n, d),),
        op("unit_rows"),
        lambda x: normalize(x, dim=1),
        lambda n, d: (8 * n * d, 5 * n * d),
        sweeps={"N": tuple((n, 512) for n in (64, 256, 1024, 4096, 16384, 65536))},
    )
]
