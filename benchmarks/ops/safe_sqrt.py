"""Square roots whose gradient at 0 is 0: forward and gradient of n x m entries, some of them 0."""

from torch import Tensor

from benchmarks.case import Case, op, random


def inputs(n: int, m: int) -> tuple[Tensor, ...]:
    """Squares, every 100th of them 0."""
    x = random(n, m).square()
    x.view(-1)[::100] = 0
    return (x,)


CASES = [
    Case(
        "safe_sqrt",
        ((256, 256), (4096, 1024)),
        inputs,
        op("safe_sqrt"),
        "the published codes add an eps under the root, which gives another gradient at 0",
        lambda n, m: (4 * n * m, 4 * n * m),
    )
]
