"""Each row's k nearest other rows: n x d, k."""

from benchmarks.case import Case, op, random
from benchmarks.official.samples import nearest
from benchmarks.peers import keops_nearest

CASES = [
    Case(
        "knn",
        ((256, 64), (4096, 128)),
        lambda n, d: (random(n, d),),
        lambda x: op("knn")(x, 10),
        lambda x: nearest(x, 10),
        lambda n, d: (2 * n * n * d, n * d + 20 * n),
        students=0,
        peers={"pykeops": lambda: keops_nearest(10)},
        sweeps={"N": tuple((n, 256) for n in (64, 256, 1024, 4096, 16384, 65536))},
    )
]
