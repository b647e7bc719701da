"""Which rule a sum over edges goes to."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from graphkd_kernels._blocked.edge_square import edge_square
from graphkd_kernels._blocked.ega import ega_sums
from graphkd_kernels._blocked.joint import joint_gram
from graphkd_kernels._blocked.nodes import node_sum
from graphkd_kernels._blocked.rows import MAPS, center_normalize, unit_rows
from graphkd_kernels._blocked.similarity import similarity
from graphkd_kernels._blocked.unit_edges import unit_edge_sum
from graphkd_kernels.autograd import Maybe, apply


def edge_sum(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe, relation: str, penalty: str, gamma: float = 1.0) -> Tensor:
    """Squares of inner products have a closed form; everything else goes row by row."""
    if penalty == "square" and relation in MAPS:
        return edge_square(xs, ys, xt, yt, relation)
    return apply("edge_penalty", (relation, penalty, float(gamma)), xs, ys, xt, yt)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "center_normalize": center_normalize,
    "edge_sum": edge_sum,
    "ega_sums": ega_sums,
    "joint_gram": joint_gram,
    "node_sum": node_sum,
    "similarity": similarity,
    "unit_edge_sum": unit_edge_sum,
    "unit_rows": unit_rows,
}
