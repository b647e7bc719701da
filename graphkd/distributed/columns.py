"""Columns of the rows of all ranks compared by sums alone: no row is gathered."""

import torch

from graphkd import distributed
from graphkd.ops import damped_column_pearson as of_one_rank
from graphkd.typing import Float, Tensor


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
        return of_one_rank(student, teacher, eps)
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
