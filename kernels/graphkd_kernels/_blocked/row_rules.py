"""Rows and columns of two matrices, and rows of edges, as differentiable operations."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked import edge_rows, rowwise
from graphkd_kernels._blocked.blocks import row_slices, sum_computed_again
from graphkd_kernels._blocked.opaque import BlockRule
from graphkd_kernels.autograd import Maybe, Needs, Options, apply, register, transformed

Sums = tuple[Tensor, tuple[Maybe, ...]]


class Rowwise(BlockRule):
    """One value for each pair of rows (or of columns) of two matrices.

    Args:
        sweep: (student, teacher, option, needs) -> values and gradients.
        truth: the reference.
        dropped: the dimension that is summed over: -1 for rows, -2 for columns.
    """

    def __init__(self, sweep: Callable[..., Sums], truth: Callable[..., Tensor], dropped: int = -1) -> None:
        self._sweep, self._truth, self._dropped = sweep, truth, dropped

    def sweep(self, options: Options, needs: Needs, *tensors: Maybe) -> Sums:
        """Values and gradients."""
        return self._sweep(*tensors, *options, needs)

    def shape(self, *tensors: Maybe) -> tuple[int, ...]:
        """One number for each row or column."""
        first = tensors[0]
        assert first is not None
        kept = list(first.shape)
        del kept[self._dropped]
        return tuple(kept)

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        """Each row's, or column's, gradient times its upstream one."""
        factors = upstream.unsqueeze(self._dropped)
        return tuple(None if each is None else factors * each for each in kept)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The reference: as large as its inputs."""
        return self._truth(*tensors, *options)


class EdgeRows(BlockRule):
    """A sum over rows of edges; the last tensor may hold one index for each row.

    Args:
        sweep: (tensors, options, needs) -> value and gradients.
        truth: the reference.
        sides: tensors that have a row for each row of edges.
    """

    def __init__(self, sweep: Callable[..., Sums], truth: Callable[..., Tensor], sides: tuple[int, ...]) -> None:
        self._sweep, self._truth, self._sides = sweep, truth, sides

    def sweep(self, options: Options, needs: Needs, *tensors: Maybe) -> Sums:
        """Value and gradients."""
        return self._sweep(*tensors, *options, needs)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The reference on blocks of rows, each computed again in its backward pass."""
        first = tensors[0]
        assert first is not None
        others = first if tensors[1] is None else tensors[1]
        parts = row_slices(first.shape[-2], others[..., 0].numel())
        if len(parts) <= 1 or transformed():
            return self._truth(*tensors, *options)
        whole = [tensors[i - 1] if i % 2 and each is None else each for i, each in enumerate(tensors)]

        def block(part: slice) -> Tensor:
            rows = list(whole)
            for i in self._sides:
                each = whole[i]
                assert each is not None
                rows[i] = each[..., part, :] if each.is_floating_point() else each[..., part]
            return self._truth(*rows, *options)

        return sum_computed_again(block, parts)


def _penalty(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float) -> Tensor:
    if penalty == "unit":
        value: Tensor = reference.unit_edge_sum(xs, ys, xt, yt)
    else:
        value = reference.edge_sum(xs, ys, xt, yt, relation, penalty, gamma)
    return value


def _info_nce(x: Tensor, y: Maybe, positives: Tensor, *options_and_needs: Any) -> Sums:
    relation, temperature, gamma, needs = options_and_needs
    value, gradients = edge_rows.info_nce(x, y, positives, relation, temperature, gamma, needs[:2])
    return value, (*gradients, None)


register("row_kl", Rowwise(rowwise.row_kl, reference.row_kl))
register("damped_row_pearson", Rowwise(rowwise.damped_row_pearson, reference.damped_row_pearson))
register("damped_column_pearson", Rowwise(rowwise.damped_column_pearson, reference.damped_column_pearson, -2))


class EdgePenalties(EdgeRows):
    """A sum of penalties of single edges, whose passes a compiler fuses."""

    opaque = False


register("edge_penalty", EdgePenalties(edge_rows.edge_penalty, _penalty, (0, 2)))
register("edge_kl", EdgeRows(edge_rows.edge_kl, reference.edge_kl, (0, 2)))
register("edge_pkt", EdgeRows(edge_rows.edge_pkt, reference.edge_pkt, (0, 2)))
register("info_nce", EdgeRows(_info_nce, reference.info_nce, (0, 2)))


def row_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL of each row's softmax."""
    return apply("row_kl", (float(temperature),), student, teacher)


def row_pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """Correlation of corresponding rows."""
    return apply("damped_row_pearson", (0.0,), student, teacher)


def damped_row_pearson(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Correlation of corresponding rows, eps beside the lengths."""
    return apply("damped_row_pearson", (float(eps),), student, teacher)


def damped_column_pearson(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Correlation of corresponding columns, eps beside the lengths."""
    return apply("damped_column_pearson", (float(eps),), student, teacher)


def edge_kl(
    xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, temperature: float, gamma: float = 1.0
) -> Tensor:
    """KL of the rows' softmax, summed."""
    return apply("edge_kl", (relation, float(temperature), float(gamma)), xs, ys, xt, yt)


def edge_pkt(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    """PKT's divergence of the rows, summed."""
    return apply("edge_pkt", (), xs, ys, xt, yt)


def info_nce(x: Tensor, y: Maybe, positives: Tensor, relation: str, temperature: float, gamma: float = 1.0) -> Tensor:
    """- log softmax at each row's positive, summed."""
    return apply("info_nce", (relation, float(temperature), float(gamma)), x, y, positives)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "row_kl": row_kl,
    "row_pearson": row_pearson,
    "damped_row_pearson": damped_row_pearson,
    "damped_column_pearson": damped_column_pearson,
    "edge_kl": edge_kl,
    "edge_pkt": edge_pkt,
    "info_nce": info_nce,
}
