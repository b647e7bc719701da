r"""Alignments: how far the student's edges are from the teacher's.

Each is a *reduction*: a sum over the rows at hand, then an outer function of that sum, the number of rows and the
number of columns. Sum and count are added over all ranks before the outer function applies, so that a root or a mean
is that of the whole graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import mse_loss, smooth_l1_loss

from graphkd import distributed, ops
from graphkd.errors import OptionError, ShapeError
from graphkd.registry import Registry
from graphkd.typing import Float, Int, Tensor

Penalty = Callable[[Tensor, Tensor], Tensor]
Outer = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Alignment:
    r"""A comparison of two blocks of edges, :math:`f(\sum p(E^S, E^T), \text{rows}, \text{columns})`.

    Args:
        name: what it is called.
        penalty: of the two blocks: one number for each entry, or one for each row.
        outer: of the sum of penalties, the number of rows (a tensor) and of columns.
        kernel: what fused kernels call the penalty, with its numbers; default none that they know.

    Shapes: student (*b, n, m), teacher (*b, n, m) -> scalar.
    Raises: ShapeError if the blocks differ in shape.
    Example: ``MSE(student_edges, teacher_edges)``
    """

    name: str
    penalty: Penalty
    outer: Outer
    kernel: tuple[Any, ...] = ()

    def __call__(
        self, student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """The value over all ranks; ``weight``, where given, multiplies the penalty of each entry."""
        return self.reduce(*self._sum(student, teacher, weight))

    def local(
        self, student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """The value of these blocks alone, whatever other ranks hold."""
        return self.finish(*self._sum(student, teacher, weight))

    def finish(self, value: Float[Tensor, ""], rows: int, columns: int) -> Float[Tensor, ""]:
        """The outer function of a sum that is already that of all rows."""
        return self.outer(value, value.new_tensor(float(rows)), columns)

    def reduce(self, value: Float[Tensor, ""], rows: int, columns: int) -> Float[Tensor, ""]:
        """The outer function of a local sum and a local number of rows, both added over all ranks first."""
        if distributed.world_size() == 1:
            return self.finish(value, rows, columns)
        both = distributed.total(torch.stack([value, value.new_tensor(float(rows))]))
        return self.outer(both[0], both[1].detach(), columns)

    @property
    def sums(self) -> bool:
        """Whether the value is a function of a sum over entries or rows; a subclass may be none."""
        return type(self) is Alignment

    def local_sum(
        self, student: Float[Tensor, "*b n m"], teacher: Float[Tensor, "*b n m"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """The sum of penalties that :meth:`reduce` takes, of these blocks."""
        return self._sum(student, teacher, weight)[0]

    def _sum(self, student: Tensor, teacher: Tensor, weight: Tensor | None) -> tuple[Tensor, int, int]:
        if student.shape != teacher.shape:
            raise ShapeError(
                f"student edges {tuple(student.shape)} and teacher edges {tuple(teacher.shape)} differ: "
                "both graphs need the same nodes in the same order"
            )
        penalty = self.penalty(student, teacher)
        if weight is not None:
            if penalty.shape != student.shape:
                raise OptionError(f"alignment {self.name!r} compares whole rows, it takes no weight of single edges")
            penalty = penalty * weight
        return penalty.sum(), student[..., 0].numel(), student.shape[-1]


def _root(value: Tensor, rows: Tensor, columns: int) -> Tensor:
    return ops.safe_sqrt(value)


def _root_mean(value: Tensor, rows: Tensor, columns: int) -> Tensor:
    return ops.safe_sqrt(value / (rows * columns))


def _mean(value: Tensor, rows: Tensor, columns: int) -> Tensor:
    return value / (rows * columns)


def _mean_of_rows(value: Tensor, rows: Tensor, columns: int) -> Tensor:
    return value / rows


def _square(student: Tensor, teacher: Tensor) -> Tensor:
    return mse_loss(student, teacher, reduction="none")


def _huber(student: Tensor, teacher: Tensor) -> Tensor:
    return smooth_l1_loss(student, teacher, reduction="none")


def _row_decorrelation(student: Tensor, teacher: Tensor) -> Tensor:
    return 1 - ops.row_pearson(student, teacher)


def _soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    return -ops.expectation(teacher.softmax(-1), student.log_softmax(-1))


ALIGNMENTS: Registry[Alignment] = Registry("alignment")


def _add(name: str, penalty: Penalty, outer: Outer, *kernel: Any) -> Alignment:
    return ALIGNMENTS.register(name)(Alignment(name, penalty, outer, kernel))


FROBENIUS = _add("frobenius", _square, _root, "square")
"""Un-squared Frobenius norm of the difference (EGA, eq. 4, as its official code computes it)."""
RMS = _add("rms", _square, _root_mean, "square")
"""Frobenius norm divided by the root of the number of entries: does not grow with the graph."""
MSE = _add("mse", _square, _mean, "square")
"""Mean squared difference."""
ROW_SQUARES = _add("row_squares", _square, _mean_of_rows, "square")
"""Squared difference summed over each row, mean over rows: ICKD's divisor B C."""
HUBER = _add("huber", _huber, _mean, "huber")
"""Mean smooth-L1 difference, quadratic up to 1."""
KL = _add("kl", ops.row_kl, _mean_of_rows, "kl", 1.0)
"""KL(softmax(teacher row) || softmax(student row)), mean over rows."""
PEARSON = _add("pearson", _row_decorrelation, _mean_of_rows)
"""1 - correlation of corresponding rows, mean over rows (the form of DIST)."""
CROSS_ENTROPY = _add("cross_entropy", _soft_cross_entropy, _mean_of_rows)
"""Cross-entropy of the student's row softmax under the teacher's, mean over rows."""


def kl(temperature: float = 1.0) -> Alignment:
    """KL of the rows' softmax at a temperature > 0; default 1."""
    penalty = partial(ops.row_kl, temperature=ops.positive_temperature(temperature))
    return Alignment(f"kl@{temperature:g}", penalty, _mean_of_rows, ("kl", temperature))


def sparse_row_kl(
    places: Int[Tensor, "r k"], a: Float[Tensor, "r k"], others: Int[Tensor, "r k"], b: Float[Tensor, "r k"], m: int
) -> Float[Tensor, " r"]:
    """KL(softmax(A) || softmax(B)) of rows of m numbers, a at some places of A, b at others of B, and 0 elsewhere.

    With d = A - B it is E d + log E exp(-d) under softmax(A), and d is 0 outside both sets of places.
    """
    same = places.unsqueeze(-1) == others.unsqueeze(-2)
    b_alone = b.masked_fill(same.any(-2), 0.0)
    d = torch.cat([a - torch.where(same, b.unsqueeze(-2), 0.0).sum(-1), -b_alone], -1)
    p = torch.cat([a.exp(), torch.ones_like(b)], -1) / (a.exp().sum(-1, keepdim=True) + m - a.shape[-1])
    return (p * d).sum(-1) + (p * (-d).expm1()).sum(-1).log1p()
