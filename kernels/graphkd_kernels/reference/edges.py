"""Edges of two networks compared, summed over all entries (or rows) of this rank."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from graphkd_kernels.grams import join_mapped
from graphkd_kernels.precision import widened
from graphkd_kernels.reference.pairs import ROW_MAPS, similarity
from graphkd_kernels.reference.rows import row_kl, safe_sqrt, unit_rows

PKT_EPS = 1e-7
Nodes = Float[Tensor, "*b n d"]
Targets = Float[Tensor, "*b m d"] | None


def penalty_sum(difference: Tensor, penalty: str) -> Float[Tensor, ""]:
    """Sum of squares ("square"), or of smooth-L1 values, quadratic up to 1 ("huber")."""
    if penalty == "huber":
        return smooth_l1_loss(difference, torch.zeros_like(difference), reduction="sum")
    assert penalty == "square", penalty
    return difference.square().sum()


@widened
def edge_sum(
    xs: Nodes, ys: Targets, xt: Nodes, yt: Targets, relation: str, penalty: str, gamma: float = 1.0
) -> Float[Tensor, ""]:
    """Sum over all entries of penalty(relation of students - relation of teachers); the widths may differ."""
    return penalty_sum(similarity(xs, ys, relation, gamma) - similarity(xt, yt, relation, gamma), penalty)


@widened
def unit_edge_sum(xs: Nodes, ys: Targets, xt: Nodes, yt: Targets) -> Float[Tensor, ""]:
    """Squared difference of the two Grams, each with rows of unit length (SP, ICKD)."""
    student, teacher = (unit_rows(similarity(x, y, "gram")) for x, y in ((xs, ys), (xt, yt)))
    return (student - teacher).square().sum()


@widened
def edge_kl(
    xs: Nodes, ys: Targets, xt: Nodes, yt: Targets, relation: str, temperature: float, gamma: float = 1.0
) -> Float[Tensor, ""]:
    """Sum over rows of KL(softmax(teacher's relations / T) || softmax(student's / T))."""
    student, teacher = (similarity(x, y, relation, gamma) for x, y in ((xs, ys), (xt, yt)))
    return row_kl(student, teacher, temperature).sum()


def _pkt_rows(x: Nodes) -> Nodes:
    length = safe_sqrt(x.square().sum(-1, keepdim=True))
    return torch.where(length == 0, 0.0, x / (length + PKT_EPS))


def _affinities(x: Nodes, y: Targets) -> Float[Tensor, "*b n m"]:
    rows = _pkt_rows(x)
    kernel = ((similarity(rows, None if y is None else _pkt_rows(y), "gram") + 1) / 2).clamp_min(0)
    total = kernel.sum(-1, keepdim=True)
    return kernel / torch.where(total == 0, 1.0, total)


@widened
def edge_pkt(xs: Nodes, ys: Targets, xt: Nodes, yt: Targets) -> Float[Tensor, ""]:
    """Sum of p log((p + 1e-7) / (q + 1e-7)), with q (student) and p rows of (cosine + 1) / 2 that sum to 1 (PKT)."""
    q, p = _affinities(xs, ys), _affinities(xt, yt)
    return (p * ((p + PKT_EPS) / (q + PKT_EPS)).log()).sum()


@widened
def info_nce(
    x: Nodes, y: Targets, positives: Int[Tensor, " n"], relation: str, temperature: float, gamma: float = 1.0
) -> Float[Tensor, ""]:
    """Sum over rows of -log softmax(relation / T) at the row's positive."""
    return cross_entropy(similarity(x, y, relation, gamma) / temperature, positives, reduction="sum")


@widened
def node_sum(
    student: Float[Tensor, "m d"],
    teacher: Float[Tensor, "n d"],
    relation: str,
    target: str,
    offset: int = 0,
    everyone: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, ""]:
    """Sum of squares of relation(teacher_i, student_j) minus its target.

    ``"identity"``: 1 at j = offset + i, else 0. ``"diagonal"``: only these entries count. ``"gram"``: the relation of
    teacher_i with everyone's teacher_j (``None``: the teacher's own).
    """
    own = torch.arange(len(teacher), device=teacher.device)
    relations = similarity(teacher, student, relation)
    if target == "diagonal":
        return (relations[own, offset + own] - 1).square().sum()
    if target == "gram":
        return (relations - similarity(teacher, everyone, relation)).square().sum()
    assert target == "identity", target
    identity = torch.zeros_like(relations)
    identity[own, offset + own] = 1
    return (relations - identity).square().sum()


@widened
def ega_sums(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], relation: str) -> Float[Tensor, " 2"]:
    """EGA's two sums: of the edges, and of the nodes against the identity."""
    edges = edge_sum(student, None, teacher, None, relation, "square")
    return torch.stack([edges, node_sum(student, teacher, relation, "identity")])


@widened
def joint_gram(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], relation: str) -> Float[Tensor, "k k"]:
    """J'J of mapped rows side by side: J = [S + T, S - T], or [S, T] in float64 where the widths differ."""
    row_map = ROW_MAPS[relation]
    joined = join_mapped(row_map(student), row_map(teacher))
    if student.shape[-1] != teacher.shape[-1]:
        joined = joined.double()  # no difference of rows keeps the digits
    return joined.mT @ joined
