"""SP and ICKD: Gram matrices with rows of unit length compared, squares summed: n x d."""

from benchmarks.case import Case, op, pair
from benchmarks.official.samples import unit_gram
from benchmarks.peers import torchdistill_sp

CASES = [
    Case(
        "unit_edge_sum",
        ((256, 512), (4096, 512)),
        pair,
        lambda s, t: op("unit_edge_sum")(s, None, t, None),
        lambda s, t: (unit_gram(s) - unit_gram(t)).square().sum(),
        lambda n, d: (min(4 * n * n * d, 10 * n * d * d), 5 * n * d),
        near={1: 0},
        peers={"torchdistill": torchdistill_sp},
        long=((8192, 256),),
        sweeps={"N": tuple((n, 256) for n in (64, 256, 1024, 4096, 8192, 16384, 32768, 65536))},
    )
]
