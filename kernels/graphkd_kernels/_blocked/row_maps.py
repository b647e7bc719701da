"""Rows of a node set mapped so that a relation is their inner product, and the map's derivative in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor

_PKT_EPS = 1e-7


@dataclass(frozen=True)
class MappedRows:
    """Rows y = (x - mean) / length, with what the derivative needs.

    Args:
        rows: y (*b, n, d).
        scale: 1 / the divisor, 0 for a dead row (*b, n, 1); ``None`` for the identity.
        pull: factor of <g, y> y in the derivative; ``scale`` except where an eps stands beside the length.
        centered: whether the mean was taken off.
    """

    rows: Tensor
    scale: Tensor | None = None
    pull: Tensor | None = None
    centered: bool = False

    def gradient(self, g: Tensor) -> Tensor:
        """dx from dy."""
        if self.scale is None or self.pull is None:
            return g
        along = (g * self.rows).sum(-1, keepdim=True)
        dx = (g * self.scale).addcmul_(self.rows, along * self.pull, value=-1)
        return dx.sub_(dx.mean(-1, keepdim=True)) if self.centered else dx


def map_rows(x: Tensor, relation: str) -> MappedRows:
    """Map rows for ``"gram"``, ``"cosine"``, ``"pearson"`` or ``"pkt"`` (cosine with 1e-7 beside the length)."""
    if relation == "gram":
        return MappedRows(x)
    centered = relation == "pearson"
    rows = x - x.mean(-1, keepdim=True) if centered else x
    length = rows.square().sum(-1, keepdim=True).sqrt()
    rounding = 4 * torch.finfo(x.dtype).eps * x.square().sum(-1, keepdim=True).sqrt() if centered else 0.0
    dead = length <= rounding  # a NaN is not, and passes
    alive = torch.where(dead, 1.0, length)
    scale = torch.where(dead, 0.0, 1 / (alive + _PKT_EPS if relation == "pkt" else alive))
    pull = torch.where(dead, 0.0, 1 / alive)
    return MappedRows(rows * scale, scale, pull, centered)
