"""Published losses of relations between samples, each in the dense form of its paper and of the code that came with it.

Written from the equations; no care for constant rows, equal rows or memory.
"""

from math import exp, factorial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, normalize, smooth_l1_loss


def rows(x: Tensor) -> Tensor:
    """Centred, of unit length."""
    x = x - x.mean(-1, keepdim=True)
    return x / x.norm(dim=-1, keepdim=True)


def ega(student: Tensor, teacher: Tensor, node_weight: float = 1.0, edge_weight: float = 0.3) -> Tensor:
    """EGA, eqs. 1-7: one correlation matrix of both networks' nodes (2N x 2N), then its blocks."""
    n = len(student)
    nodes = rows(torch.cat([teacher, student]))
    matrix = nodes @ nodes.T
    node = matrix[:n, n:] - torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    return node_weight * node.norm() + edge_weight * (matrix[n:, n:] - matrix[:n, :n]).norm()


def distances(x: Tensor, squared: bool = False) -> Tensor:
    """All pairs, through the Gram matrix, at least 1e-6 off the diagonal (RKD's and IRG's form)."""
    sizes = x.square().sum(1)
    squares = (sizes[:, None] + sizes[None] - 2 * x @ x.T).clamp(min=1e-12)
    found = squares if squared else squares.sqrt()
    return found * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))


def relative_distances(x: Tensor) -> Tensor:
    """RKD, eq. 6: distances over the mean of the positive ones."""
    found = distances(x)
    return found / found[found > 0].mean()


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD, eqs. 5-7."""
    return smooth_l1_loss(relative_distances(student), relative_distances(teacher))


def angles(x: Tensor) -> Tensor:
    """RKD, eq. 8: N x N x D differences, scaled, and all their inner products."""
    apart = normalize(x[None] - x[:, None], p=2, dim=2)
    return torch.bmm(apart, apart.mT)


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD, eqs. 8-9, summed over all triples."""
    return smooth_l1_loss(angles(student), angles(teacher), reduction="sum")


def unit_gram(x: Tensor) -> Tensor:
    """SP, eqs. 2-3: the Gram matrix with rows of unit length."""
    return normalize(x @ x.mT, dim=-1)


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """SP, eq. 4."""
    x, y = (unit_gram(each.flatten(1)) for each in (student, teacher))
    return (x - y).square().sum() / len(x) ** 2


def similarities(x: Tensor) -> Tensor:
    """PKT, eqs. 3-5: cosines moved to [0, 1], each row a distribution."""
    x = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-7)
    kernel = (x @ x.T + 1) / 2
    return kernel / kernel.sum(1, keepdim=True)


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """PKT, eq. 8."""
    s, t = similarities(student), similarities(teacher)
    return (t * ((t + 1e-7) / (s + 1e-7)).log()).mean()


def taylor_kernel(x: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """CC, eq. 10: the Gaussian kernel of unit rows by its series."""
    x = normalize(x, dim=1)
    cosines, kernel = x @ x.T, 0.0
    for p in range(order + 1):
        kernel = kernel + exp(-2 * gamma) * (2 * gamma) ** p / factorial(p) * cosines**p
    return kernel


def cc(student: Tensor, teacher: Tensor) -> Tensor:
    """CC, eq. 6."""
    return (taylor_kernel(student) - taylor_kernel(teacher)).square().mean()


def irg_edges(x: Tensor) -> Tensor:
    """IRG: squared distances over the largest."""
    squares = distances(x.flatten(1), squared=True)
    return squares / squares.max()


def adjacency(x: Tensor) -> Tensor:
    """GKD: cosines without loops, over the roots of both degrees."""
    x = normalize(x.flatten(1), dim=1)
    edges = x @ x.T
    edges = edges * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))
    scale = edges.sum(1).clamp(min=0.1).rsqrt()
    return scale[:, None] * edges * scale[None]


def gkd(student: Tensor, teacher: Tensor) -> Tensor:
    """GKD: squared differences of one layer's adjacencies, summed."""
    return (adjacency(student) - adjacency(teacher)).square().sum()


def edge_kl(x: Tensor, y: Tensor, teacher_x: Tensor, teacher_y: Tensor, temperature: float) -> Tensor:
    """Edges to class proxies as distributions: all cosines, then the divergence of their softmax, summed over rows."""
    s, t = (normalize(a, dim=1) @ normalize(b, dim=1).T / temperature for a, b in ((x, y), (teacher_x, teacher_y)))
    return kl_div(s.log_softmax(1), t.log_softmax(1), reduction="sum", log_target=True)


def info_nce(x: Tensor, y: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Contrast of each row with its positive among all, summed."""
    scores = normalize(x, dim=1) @ normalize(y, dim=1).T / temperature
    return cross_entropy(scores, positives, reduction="sum")


def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest other rows by all distances: indices and squared distances."""
    squares = torch.cdist(x, x).square().fill_diagonal_(float("inf"))
    values, indices = squares.topk(k, dim=1, largest=False)
    return indices, values
