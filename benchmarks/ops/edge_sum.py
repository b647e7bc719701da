"""Edges of two graphs compared, squares summed: n samples of width d, or channels of b images."""

from torch import Tensor
from torch.nn.functional import normalize, smooth_l1_loss

from benchmarks.case import Case, Function, op, pair, random
from benchmarks.official.samples import rows


def ours(relation: str, penalty: str) -> Function:
    """Complete graphs over the same nodes."""
    return lambda s, t: op("edge_sum")(s, None, t, None, relation, penalty)


def official(student: Tensor, teacher: Tensor) -> Tensor:
    """Both correlation matrices, then their difference."""
    return (rows(student) @ rows(student).mT - rows(teacher) @ rows(teacher).mT).square().sum()


def huber(student: Tensor, teacher: Tensor) -> Tensor:
    """Both cosine matrices, then the smooth-L1 of their difference."""
    s, t = (normalize(x, dim=1) for x in (student, teacher))
    return smooth_l1_loss(s @ s.T, t @ t.T, reduction="sum")


def channels(b: int, c: int, p: int) -> tuple[Tensor, ...]:
    """Maps of b images: c channels over p positions."""
    return random(b, c, p), random(b, c, p, seed=1)


CASES = [
    Case(
        "edge_sum",
        ((256, 512), (4096, 512)),
        pair,
        ours("pearson", "square"),
        official,
        lambda n, d: (min(4 * n * n * d, 8 * n * d * d), 5 * n * d),
        near={1: 0},
        sweeps={
            "N": tuple((n, 256) for n in (64, 256, 1024, 4096, 8192, 16384, 32768, 65536)),
            "D": tuple((1024, d) for d in (64, 128, 256, 512, 1024, 2048)),
        },
    ),
    Case(
        "edge_sum.huber",
        ((256, 512), (2048, 512)),
        pair,
        ours("cosine", "huber"),
        huber,
        lambda n, d: (6 * n * n * d, 5 * n * d),
        near={1: 0},
    ),
    Case(
        "edge_sum.channels",
        ((8, 256, 49), (16, 1024, 49)),
        channels,
        ours("pearson", "square"),
        official,
        lambda b, c, p: (b * min(4 * c * c * p, 8 * c * p * p), 5 * b * c * p),
        near={1: 0},
        long=((64, 2048, 49),),
        check_at=lambda shape: (min(shape[0], 8), *shape[1:]),
        sweeps={
            "C": tuple((8, c, 49) for c in (64, 128, 256, 512, 1024, 2048)),
            "HW": tuple((8, 256, p) for p in (16, 49, 196, 784, 3136)),
        },
    ),
]
