"""Every operation of ``graphkd.ops``, and the alignments above them, as a benchmark beside its published form.

A comment before each case says what is measured and what its shapes mean.
"""

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, normalize, smooth_l1_loss, softmax, softplus

from benchmarks.case import Case, Function, op, pair, random
from benchmarks.official.logits import correlation, dist
from benchmarks.official.samples import (
    edge_kl,
    ega,
    info_nce,
    nearest,
    pkt,
    rkd_angle,
    rkd_distance,
    rows,
    unit_gram,
)
from benchmarks.peers import (
    flashlib_nearest,
    keops_nearest,
    liger_kl,
    memeff_info_nce,
    metric_squared,
    siglip_kernel,
    torchdistill_dist,
    torchdistill_pkt,
    torchdistill_rkd,
    torchdistill_sp,
)
from graphkd import Edges, functional
from graphkd.graphs.align import align, align_nodes
from graphkd.graphs.alignments import MSE
from graphkd.graphs.relations import pearson


def _aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of squares."""
    edges = (Edges(x, x, pearson, name="pearson") for x in (student, teacher))
    return align(next(edges), next(edges), MSE)


def _aligned_nodes(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of squares."""
    return align_nodes(student, teacher, "pearson", "identity", MSE)


def _from_identity(student: Tensor, teacher: Tensor) -> Tensor:
    """EGA's node matrix: squared differences from the identity."""
    matrix = rows(teacher) @ rows(student).T
    return (matrix - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)).square()


def _probabilities(n: int, c: int) -> tuple[Tensor, ...]:
    """Probabilities of n samples over c classes."""
    return random(n, c).softmax(1), random(n, c, seed=1).softmax(1)


def _two_sides(n: int, c: int, d: int) -> tuple[Tensor, ...]:
    """Samples and proxies of the student, then of the teacher."""
    return random(n, d), random(c, d, seed=1), random(n, d, seed=2), random(c, d, seed=3)


def _summed_pkt() -> Function:
    """The peer's mean over all pairs as a sum."""
    loss = torchdistill_pkt()

    def call(student: Tensor, teacher: Tensor) -> Tensor:
        return len(student) ** 2 * loss(student, teacher)

    return call


def _edge_squares(student: Tensor, teacher: Tensor) -> Tensor:
    """Both correlation matrices, then their difference."""
    return (rows(student) @ rows(student).mT - rows(teacher) @ rows(teacher).mT).square().sum()


def _edge_huber(student: Tensor, teacher: Tensor) -> Tensor:
    """Both cosine matrices, then the smooth-L1 of their difference."""
    s, t = (normalize(x, dim=1) for x in (student, teacher))
    return smooth_l1_loss(s @ s.T, t @ t.T, reduction="sum")


def _channels(b: int, c: int, p: int) -> tuple[Tensor, ...]:
    """Maps of b images: c channels over p positions."""
    return random(b, c, p), random(b, c, p, seed=1)


def _ega(student: Tensor, teacher: Tensor) -> Tensor:
    """Both un-squared norms at the official class's weights."""
    edge, node = op("ega_sums")(student, teacher, "pearson").unbind()
    return node.sqrt() + 0.3 * edge.sqrt()


def _positives(n: int, d: int) -> tuple[Tensor, ...]:
    """Each row's positive is the teacher's row of the same sample."""
    return (*pair(n, d), torch.arange(n))


def _sigmoid_pairs(cosines: Tensor) -> Tensor:
    """Each pair says whether it is one sample, at SigLIP's first scale and bias."""
    logits = 10.0 * cosines - 10.0
    return softplus(logits).sum() - logits.trace()


def _joined(student: Tensor, teacher: Tensor) -> Tensor:
    """The same as one product."""
    joined = torch.cat([student + teacher, student - teacher], -1)
    return torch.einsum("nk,nl->kl", joined, joined)


def _row_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """As in Hinton's distillation and the code that followed it."""
    return kl_div(log_softmax(student / 4, 1), softmax(teacher / 4, 1), reduction="none").sum(1)


def _logits(n: int, c: int) -> tuple[Tensor, ...]:
    """Logits."""
    return 3 * random(n, c), 3 * random(n, c, seed=1)


def _squares(n: int, m: int) -> tuple[Tensor, ...]:
    """Squares, every 100th of them 0."""
    x = random(n, m).square()
    x.view(-1)[::100] = 0
    return (x,)


CASES = [
    # Edges of two graphs compared through the door that distillers use: Pearson edges between n samples.
    Case(
        "align",
        ((256, 512), (4096, 256)),
        pair,
        _aligned,
        lambda s, t: (rows(s) @ rows(s).T - rows(t) @ rows(t).T).square().mean(),
        lambda n, d: (min(4 * n * n * d, 8 * n * d * d), 5 * n * d),
        near={1: 0},
    ),
    # The teacher-student node matrix against the identity, through the door that distillers use: n x d.
    Case(
        "align_nodes",
        ((256, 512), (4096, 256)),
        pair,
        _aligned_nodes,
        lambda s, t: _from_identity(s, t).mean(),
        lambda n, d: (min(4 * n * n * d, 6 * n * d * d), 5 * n * d),
    ),
    # Rows centred and scaled to unit length: n x d.
    Case(
        "center_normalize",
        ((256, 512), (8192, 512)),
        lambda n, d: (random(n, d),),
        op("center_normalize"),
        rows,
        lambda n, d: (10 * n * d, 5 * n * d),
    ),
    # DIST within classes: damped correlation of columns of two matrices of probabilities.
    Case(
        "damped_column_pearson",
        ((256, 100), (8192, 1000)),
        _probabilities,
        lambda s, t: op("damped_column_pearson")(s, t, 1e-8),
        lambda s, t: correlation(s.T, t.T),
        lambda n, c: (16 * n * c, 5 * n * c),
    ),
    # All of DIST, from class scores.
    Case(
        "dist_sums",
        ((256, 100), (4096, 1000)),
        _logits,
        functional.dist,
        dist,
        lambda n, c: (40 * n * c, 5 * n * c),
        near={1: 0},
        peers={"torchdistill": torchdistill_dist},
        long=((8192, 1000),),
    ),
    # DIST within samples: damped correlation of corresponding rows of two matrices of probabilities.
    Case(
        "damped_row_pearson",
        ((256, 100), (8192, 1000)),
        _probabilities,
        lambda s, t: op("damped_row_pearson")(s, t, 1e-8),
        lambda s, t: correlation(s, t),
        lambda n, c: (16 * n * c, 5 * n * c),
    ),
    # Edges to class proxies as distributions: n samples, c classes, width d.
    Case(
        "edge_kl",
        ((256, 100, 512), (4096, 1000, 512)),
        _two_sides,
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
    ),
    # PKT's divergence of similarities, summed over rows: n x d.
    Case(
        "edge_pkt",
        ((256, 512), (2048, 512)),
        pair,
        lambda s, t: op("edge_pkt")(s, None, t, None),
        lambda s, t: len(s) ** 2 * pkt(s, t),
        lambda n, d: (8 * n * n * d, 5 * n * d),
        near={1: 0},
        peers={"torchdistill": _summed_pkt},
    ),
    # Edges of two graphs compared, squares summed: n samples of width d, or channels of b images.
    Case(
        "edge_sum",
        ((256, 512), (4096, 512)),
        pair,
        lambda s, t: op("edge_sum")(s, None, t, None, "pearson", "square"),
        _edge_squares,
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
        lambda s, t: op("edge_sum")(s, None, t, None, "cosine", "huber"),
        _edge_huber,
        lambda n, d: (6 * n * n * d, 5 * n * d),
        near={1: 0},
    ),
    Case(
        "edge_sum.channels",
        ((8, 256, 49), (16, 1024, 49)),
        _channels,
        lambda s, t: op("edge_sum")(s, None, t, None, "pearson", "square"),
        _edge_squares,
        lambda b, c, p: (b * min(4 * c * c * p, 8 * c * p * p), 5 * b * c * p),
        near={1: 0},
        long=((64, 2048, 49),),
        check_at=lambda shape: (min(shape[0], 8), *shape[1:]),
        sweeps={
            "C": tuple((8, c, 49) for c in (64, 128, 256, 512, 1024, 2048)),
            "HW": tuple((8, 256, p) for p in (16, 49, 196, 784, 3136)),
        },
    ),
    # All of EGA from the same Grams: n x d.
    Case(
        "ega_sums",
        ((256, 512), (4096, 512)),
        pair,
        _ega,
        ega,
        lambda n, d: (min(8 * n * n * d, 12 * n * d * d), 5 * n * d),
        sweeps={"N": tuple((n, 256) for n in (64, 256, 1024, 4096, 8192, 16384, 32768, 65536))},
    ),
    # Inner products of n and m nodes of width d.
    Case(
        "gram",
        ((256, 100, 512), (4096, 1000, 512)),
        lambda n, m, d: (random(n, d), random(m, d, seed=1)),
        op("gram"),
        lambda x, y: torch.einsum("nd,md->nm", x, y),
        lambda n, m, d: (4 * n * m * d, 2 * n * m + 2 * n * d + 2 * m * d),
    ),
    # Contrast of each row with its positive among n: n x d.
    Case(
        "info_nce",
        ((256, 512), (2048, 512)),
        _positives,
        lambda x, y, positives: op("info_nce")(x, y, positives, "cosine", 0.1),
        lambda x, y, positives: info_nce(x, y, positives, 0.1),
        lambda n, d: (6 * n * n * d, 4 * n * d),
        peers={"memeff": lambda: memeff_info_nce(0.1)},
    ),
    # The Gram matrix of both networks' joined rows, [S + T, S - T]'[S + T, S - T]: n x d.
    Case(
        "joint_gram",
        ((256, 512), (4096, 512)),
        pair,
        lambda s, t: op("joint_gram")(s, t, "gram"),
        _joined,
        lambda n, d: (8 * n * d * d, 4 * d * d + 4 * n * d),
    ),
    # Each row's k nearest other rows: n x d, k.
    Case(
        "knn",
        ((256, 64), (4096, 128)),
        lambda n, d: (random(n, d),),
        lambda x: op("knn")(x, 10),
        lambda x: nearest(x, 10),
        lambda n, d: (2 * n * n * d, n * d + 20 * n),
        students=0,
        peers={"pykeops": lambda: keops_nearest(10), "flashlib": lambda: flashlib_nearest(10)},
        sweeps={"N": tuple((n, 256) for n in (64, 256, 1024, 4096, 16384, 65536))},
    ),
    # EGA's node term: correlations of the teacher's nodes with the student's against the identity: n x d.
    Case(
        "node_sum",
        ((256, 512), (4096, 512)),
        pair,
        lambda s, t: op("node_sum")(s, t, "pearson", "identity", 0),
        lambda s, t: _from_identity(s, t).sum(),
        lambda n, d: (min(4 * n * n * d, 6 * n * d * d), 4 * n * d),
    ),
    # RKD's angle term, summed over all triples: n x d.
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
    ),
    # RKD's distance term: n x d.
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
    ),
    # Divergence of softmax rows at temperature 4: n samples, c classes.
    Case(
        "row_kl",
        ((256, 100), (8192, 1000)),
        _logits,
        lambda s, t: op("row_kl")(s, t, 4.0),  # one number a row
        _row_divergence,
        lambda n, c: (20 * n * c, 5 * n * c),
        near={1: 0},
        peers={"liger-kernel": lambda: liger_kl(4.0)},
        sweeps={"C": tuple((1024, c) for c in (64, 256, 1024, 4096, 16384))},
    ),
    # Correlation of corresponding rows: n samples, c classes.
    Case(
        "row_pearson",
        ((256, 100), (8192, 1000)),
        pair,
        op("row_pearson"),
        lambda s, t: (rows(s) * rows(t)).sum(1),
        lambda n, c: (16 * n * c, 5 * n * c),
        near={1: 0},
    ),
    # Square roots whose gradient at 0 is 0: forward and gradient of n x m entries, some of them 0.
    Case(
        "safe_sqrt",
        ((256, 256), (4096, 1024)),
        _squares,
        op("safe_sqrt"),
        "the published codes add an eps under the root, which gives another gradient at 0",
        lambda n, m: (4 * n * m, 4 * n * m),
    ),
    # Normalisation and Gram in one: cosines of n and m nodes of width d.
    Case(
        "similarity",
        ((256, 100, 512), (4096, 1000, 512)),
        lambda n, m, d: (random(n, d), random(m, d, seed=1)),
        lambda x, y: op("similarity")(x, y, "cosine"),
        lambda x, y: normalize(x, dim=1) @ normalize(y, dim=1).T,
        lambda n, m, d: (4 * n * m * d, 2 * n * m + 5 * n * d + 2 * m * d),
    ),
    # SigLIP's loss summed over pairs, from the matrix of cosines (no kernel of ours fuses it): n x d.
    Case(
        "similarity.siglip",
        ((256, 512), (4096, 512)),
        pair,
        lambda x, y: _sigmoid_pairs(op("similarity")(x, y, "cosine")),
        lambda x, y: _sigmoid_pairs(normalize(x, dim=1) @ normalize(y, dim=1).T),
        lambda n, d: (6 * n * n * d, 4 * n * d),
        students=2,
        peers={"siglip-kernel": lambda: siglip_kernel(10.0, -10.0)},
    ),
    # Squared distances of n and m nodes of width d.
    Case(
        "squared_distances",
        ((256, 100, 512), (4096, 1000, 512)),
        lambda n, m, d: (random(n, d), random(m, d, seed=1)),
        op("squared_distances"),
        lambda x, y: torch.cdist(x, y).square(),
        lambda n, m, d: (4 * n * m * d, 2 * n * m + 2 * n * d + 2 * m * d),
        peers={"pytorch-metric-learning": metric_squared},
    ),
    # SP and ICKD: Gram matrices with rows of unit length compared, squares summed: n x d.
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
    ),
    # Rows scaled to unit length: n x d.
    Case(
        "unit_rows",
        ((256, 512), (8192, 512)),
        lambda n, d: (random(n, d),),
        op("unit_rows"),
        lambda x: normalize(x, dim=1),
        lambda n, d: (8 * n * d, 5 * n * d),
        sweeps={"N": tuple((n, 512) for n in (64, 256, 1024, 4096, 16384, 65536))},
    ),
]
