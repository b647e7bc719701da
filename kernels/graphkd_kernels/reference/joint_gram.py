r"""The Gram matrix :math:`J^\top J` of both networks' joined rows: what ranks exchange in place of nodes."""

from jaxtyping import Float
from torch import Tensor

from graphkd_kernels.grams import join_mapped
from graphkd_kernels.precision import widened
from graphkd_kernels.reference.similarity import ROW_MAPS

__all__ = ["joint_gram"]


@widened
def joint_gram(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"], relation: str) -> Float[Tensor, "k k"]:
    """J'J of mapped rows side by side: J = [S + T, S - T], or [S, T] in float64 where the widths differ."""
    row_map = ROW_MAPS[relation]
    joined = join_mapped(row_map(student), row_map(teacher))
    if student.shape[-1] != teacher.shape[-1]:
        joined = joined.double()  # no difference of rows keeps the digits
    return joined.mT @ joined
