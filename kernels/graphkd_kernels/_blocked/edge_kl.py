"""``edge_kl`` and ``info_nce``: softmax of edges, in blocks of rows."""

from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import Block, formula_by_rows
from graphkd_kernels._blocked.edge_blocks import compare, edge_blocks, sweep
from graphkd_kernels._blocked.row_kl import kl_rows
from graphkd_kernels.autograd import Found, Maybe, Needs, Rule, apply, register

__all__ = ["edge_kl", "info_nce"]


def _divergence(
    needs: Needs, xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, temperature: float, gamma: float
) -> Found:
    return compare((xs, ys, xt, yt), needs, kl_rows, relation, 1 / temperature, gamma)


def contrast_rows(scores: Tensor, positives: Tensor, needed: bool) -> tuple[Tensor, Maybe]:
    """- log softmax(scores) at the positive of each row and its derivative.

    Shapes: (*b, n, m), (*b, n, 1) -> (*b, n, 1), (*b, n, m) where needed.
    """
    logs = scores.log_softmax(-1)
    values = -logs.gather(-1, positives)
    if not needed:
        return values, None
    one = logs.new_ones(()).expand(positives.shape)
    return values, logs.exp_().scatter_add_(-1, positives, -one)


def _contrast(
    needs: Needs, x: Tensor, y: Maybe, positives: Tensor, relation: str, temperature: float, gamma: float
) -> Found:
    side = edge_blocks(x, y, relation, 1 / temperature, needs, gamma)
    places = positives.reshape(side.shape[0], -1, 1)

    def loss(block: Block, scores: Tensor, needed: tuple[bool]) -> tuple[Tensor, Maybe]:
        return contrast_rows(scores, places[block], needed[0])

    value, gradients = sweep([side], loss)
    return value, (*gradients, None)


register("edge_kl", Rule(_divergence, formula_by_rows(reference.edge_kl, 4), compiled="operator"))
register("info_nce", Rule(_contrast, formula_by_rows(reference.info_nce, 3), compiled="operator"))


def edge_kl(
    xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, temperature: float, gamma: float = 1.0
) -> Tensor:
    """KL of the rows' softmax, summed."""
    return apply("edge_kl", (relation, float(temperature), float(gamma)), xs, ys, xt, yt)


def info_nce(x: Tensor, y: Maybe, positives: Tensor, relation: str, temperature: float, gamma: float = 1.0) -> Tensor:
    """- log softmax at each row's positive, summed."""
    return apply("info_nce", (relation, float(temperature), float(gamma)), x, y, positives)
