r"""Squares over the pairs of all ranks' samples, from D x D Gram matrices: the ranks exchange no nodes.

With :math:`J_r` the joined rows of rank r (``ops.join_mapped``), every squared edge and node term is a function
of :math:`\sum_r J_r^\top J_r`, whose size does not grow with the batch, and a rank's gradient is its own :math:`J_r`
times a matrix of that size. Sums and differences of the two networks' rows keep the digits of a small loss.

Values are those of all ranks, the same on each; gradients follow the convention of ``distributed``.
"""

from collections.abc import Callable

import torch

from graphkd import distributed, ops
from graphkd.ops import INNER, Grams, gram_blocks, join_mapped, joint_gram, row_map
from graphkd.typing import Float, Tensor

_Nodes = Float[Tensor, "n d"]
_Total = Callable[[Tensor], Tensor]


def fewer_bytes(student: _Nodes, teacher: _Nodes, rows: int, exchanges: int = 1) -> bool:
    """Whether Gram matrices are less to send than nodes: of N nodes of equal width D, where N > D.

    Args:
        rows: of all ranks.
        exchanges: 2 where the gradient needs one as well.
    """
    s, t = student.shape[-1], teacher.shape[-1]
    digits = 1 if s == t else 8 // student.element_size()  # without differences to keep them: float64
    gathered = rows * (3 * s + t)  # both networks' rows, and the sum of the student's gradients, which counts twice
    return exchanges * digits * (s + t) * (s + t + 1) < gathered


def edges(student: _Nodes, teacher: _Nodes, relation: str, rule: str, rows: int) -> Float[Tensor, ""] | None:
    """Sum over all pairs of (student's edge - teacher's edge)^2; ``None`` where nodes have to be gathered for it.

    Args:
        student, teacher: this rank's nodes.
        relation: ``"gram"``, ``"cosine"`` or ``"pearson"``; there is no such form of any other.
        rule: name of the edges' normaliser: none, rows centred, or rows of unit length.
        rows: nodes of all ranks.
    """
    form, exchanges = _FORMS.get(rule, (None, 0))
    if form is None or relation not in INNER or student.ndim != 2:
        return None
    if not fewer_bytes(student, teacher, rows, exchanges):
        return None
    return form(student, teacher, relation, rows).clamp_min(0).to(student.dtype)


def nodes(student: _Nodes, teacher: _Nodes, relation: str, target: str, rows: int) -> Float[Tensor, ""] | None:
    """Sum of squares of the teacher-student node matrix minus ``"identity"`` or the teacher's ``"gram"``; or ``None``.

    Args: as of :func:`edges`, for nodes of equal width.
    """
    if relation not in INNER or target not in _TARGETS or not fewer_bytes(student, teacher, rows):
        return None
    return _TARGETS[target](_joint(student, teacher, relation), rows).clamp_min(0).to(student.dtype)


def edges_and_nodes(student: _Nodes, teacher: _Nodes, relation: str, rows: int) -> Float[Tensor, " 2"] | None:
    """Both of EGA's sums from one exchange: of edges, and of nodes against the identity; or ``None``."""
    if relation not in INNER or not fewer_bytes(student, teacher, rows):
        return None
    gram = _joint(student, teacher, relation)
    return torch.stack([gram.squares(gram), gram.identity(rows)]).clamp_min(0).to(student.dtype)


_TARGETS: dict[str, Callable[[Grams, int], Tensor]] = {
    "identity": Grams.identity,
    "gram": lambda gram, rows: gram.teachers(),
}


def _plain(student: Tensor, teacher: Tensor, relation: str, rows: int) -> Tensor:
    gram = _joint(student, teacher, relation)
    return gram.squares(gram)


def _centred(student: Tensor, teacher: Tensor, relation: str, rows: int) -> Tensor:
    """x (y - mean y)': targets are centred, and the sources' matrix is that of the targets plus that of the mean."""
    s, t = row_map(student, relation), row_map(teacher, relation)
    d, e = s.shape[-1], t.shape[-1]
    mean = distributed.total(join_mapped(s.sum(0), t.sum(0))) / rows
    of_s, of_t = _unjoined(mean) if d == e else (mean[:d], mean[d:])
    targets = _exchanged(s - of_s, t - of_t, "gram", distributed.common_total)
    mean = mean.to(targets.dtype)
    return gram_blocks(targets + rows * torch.outer(mean, mean), d, e).squares(gram_blocks(targets, d, e))


def _unit(student: Tensor, teacher: Tensor, relation: str, rows: int) -> Tensor:
    """Rows of unit length are edges of other sources, x / |X x|; derivation: ``_blocked/unit_edge_sum.py``."""
    s, t = row_map(student, relation), row_map(teacher, relation)
    if s.shape[-1] != t.shape[-1]:
        s, t = s.double(), t.double()
    sizes = [x.detach().square().sum(dtype=torch.float64).view(1) for x in (s, t)]
    squares = torch.cat(_unjoined(distributed.total(join_mapped(*sizes)))).to(s.dtype)
    scale = torch.where(squares == 0, 1.0, squares).rsqrt()  # of one size: then their difference is small
    s, t = s * scale[0], t * scale[1]
    targets = _joint(s, t, "gram", distributed.total)
    ours, theirs = targets.own()
    s, t = _divided(s, ours.to(s.dtype)), _divided(t, theirs.to(t.dtype))
    return distributed.total(_split(joint_gram(s, t), s, t).squares(targets))


def _unjoined(joined: Float[Tensor, " k"]) -> tuple[Tensor, Tensor]:
    """Both networks' parts of sums that went over the ranks joined: what is equal stays so, whatever the order."""
    plus, minus = joined.chunk(2)
    return (plus + minus) / 2, (plus - minus) / 2


def _divided(x: Tensor, gram: Tensor) -> Tensor:
    squares = (x @ gram * x).sum(-1, keepdim=True)
    dead = squares <= 0
    return x * torch.where(dead, 0.0, 1 / torch.where(dead, 1.0, squares).sqrt())


_FORMS: dict[str, tuple[Callable[[Tensor, Tensor, str, int], Tensor], int]] = {
    "": (_plain, 1),
    "_center": (_centred, 1),
    "unit_rows": (_unit, 2),
}
"""Name of a normaliser -> its form, and how often that exchanges matrices."""


def _joint(student: Tensor, teacher: Tensor, relation: str, total: _Total = distributed.common_total) -> Grams:
    return _split(_exchanged(student, teacher, relation, total), student, teacher)


def _split(gram: Tensor, student: Tensor, teacher: Tensor) -> Grams:
    return gram_blocks(gram, student.shape[-1], teacher.shape[-1])


def _exchanged(student: Tensor, teacher: Tensor, relation: str, total: _Total) -> Float[Tensor, "k k"]:
    """Upper triangle of the joined rows' Gram matrix, summed over the ranks."""
    packed = _fold(joint_gram(student, teacher, relation).triu())
    return _unfold(total(packed), student.shape[-1] + teacher.shape[-1])


def _fold(upper: Float[Tensor, "k k"]) -> Float[Tensor, "h w"]:
    """An upper triangle without its zeros: row i and row k - 1 - i, turned round, fill k + 1 places together."""
    half = (len(upper) + 1) // 2
    turned = upper.flip(0, 1)
    return torch.nn.functional.pad(upper[:half], (1, 0)) + torch.nn.functional.pad(turned[:half], (0, 1))


def _unfold(packed: Float[Tensor, "h w"], size: int) -> Float[Tensor, "k k"]:
    """The upper triangle again."""
    top, turned = packed[:, 1:].triu(), packed[:, :-1].tril()
    return torch.cat([top, turned[: size - len(packed)].flip(0, 1)])


def damped_column_pearson(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], eps: float, rows: int
) -> Float[Tensor, " c"]:
    """Correlation of corresponding columns over all ranks, eps added to the denominator; 0 where a column is constant.

    Seven numbers for each column are exchanged. Means are constants to the gradient: centred columns sum to 0.

    Args:
        student, teacher: this rank's rows.
        eps: of DIST.
        rows: of all ranks.
    """
    if distributed.world_size() == 1:
        return ops.damped_column_pearson(student, teacher, eps)
    both = torch.cat([student, teacher], -1)
    raw = both.detach()
    mean, squares = distributed.total(torch.stack([raw.sum(0), raw.square().sum(0)]))
    x, y = (both - mean / rows).chunk(2, -1)
    moments = distributed.common_total(torch.stack([(x * x).sum(0), (y * y).sum(0), (x * y).sum(0)]))
    tiny = 4 * torch.finfo(both.dtype).eps
    small = moments[:2].detach().sqrt() <= tiny * squares.view(2, -1).sqrt()
    dead = small[0] | small[1]
    xx, yy, xy = torch.where(dead, 1.0, moments)
    return torch.where(dead, 0.0, xy / (xx.sqrt() * yy.sqrt() + eps))
