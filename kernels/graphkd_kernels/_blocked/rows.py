"""Rows scaled to unit length, centred or not, with closed-form gradients in few passes over memory.

PyTorch's layer normalisation is the centred map up to a factor, in one pass each way.
"""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, Rule, apply, register
from graphkd_kernels.reference.distances import can_look
from graphkd_kernels.reference.edge_pkt import PKT_EPS
from graphkd_kernels.reference.rows import unit_scale

__all__ = ["center_normalize", "unit_rows"]
_USUAL = 1e-15, 1e15
"""Inverse lengths of rows whose squares float32 holds."""


def map_rows(x: Tensor, relation: str) -> tuple[Tensor, Maybe]:
    """Rows whose inner products are the relation, and the inverse length of each row before (0 for a dead row).

    Beside "gram", "cosine" and "pearson" there is ``"pkt"``: the cosine with 1e-7 beside the length.
    """
    if relation == "gram":
        return x, None
    if relation == "pkt":
        return _map(x, relation)
    if not can_look(x):
        return _map_any_size(x, relation)
    rows, inverse = _map(x, relation)
    unusual = ~((inverse > _USUAL[0]) & (inverse < _USUAL[1])).squeeze(-1)
    if unusual.any():
        rows[unusual], inverse[unusual] = _map_any_size(x[unusual], relation)
    return rows, inverse


def _map_any_size(x: Tensor, relation: str) -> tuple[Tensor, Tensor]:
    """Both for rows whose squares may under- or overflow."""
    x, power = unit_scale(x)
    rows, inverse = _map(x, relation)
    return rows, inverse.div_(power)


def _map(x: Tensor, relation: str) -> tuple[Tensor, Tensor]:
    if relation in ("cosine", "pkt"):
        squares = torch.linalg.vecdot(x, x).unsqueeze(-1)
        dead = squares == 0
        alive = squares.masked_fill(dead, 1.0)
        inverse = alive.rsqrt_() if relation == "cosine" else alive.sqrt_().add_(PKT_EPS).reciprocal_()
        return x * inverse.masked_fill_(dead, 0.0), inverse
    assert relation == "pearson", relation
    finfo, width = torch.finfo(x.dtype), x.shape[-1]
    # The smallest eps keeps a constant row finite; which rows are constant is decided relative to their own size.
    weight = x.new_full((width,), width**-0.5)
    rows, mean, inverse = torch.native_layer_norm(x, [width], weight, None, finfo.tiny)
    dead = (mean.abs() + finfo.tiny**0.5 / (2 * finfo.eps)) * inverse >= 0.25 / finfo.eps  # a NaN is not, and passes
    return rows.masked_fill_(dead, 0.0), inverse.masked_fill_(dead, 0.0).mul_(width**-0.5)


def unmap_rows(gradient: Tensor, rows: Tensor, inverse: Maybe, relation: str) -> Tensor:
    """The gradient in the rows before their map, from that in the mapped rows, which is overwritten."""
    if inverse is None:
        return gradient
    if relation in ("cosine", "pkt"):
        along = torch.linalg.vecdot(gradient, rows).unsqueeze(-1)
        if relation == "pkt":  # its rows are a little shorter than 1
            along = along.div_(torch.linalg.vector_norm(rows, dim=-1, keepdim=True)).masked_fill_(inverse == 0, 0.0)
        return gradient.addcmul_(rows, along, value=-1).mul_(inverse)
    # Layer normalisation of rows that are already centred and of unit length: only their direction matters.
    width = rows.shape[-1]
    root = width**0.5
    zero, one = torch.zeros_like(inverse), torch.full_like(inverse, root)
    found: Tensor = torch.ops.aten.native_layer_norm_backward(
        gradient.mul_(inverse / root), rows, [width], zero, one, None, None, [True, False, False]
    )[0]
    return found


def _gradients(needs: Needs, x: Tensor, relation: str) -> Found:
    rows, inverse = map_rows(x, relation)
    return rows, (rows, inverse)


def _finish(needs: Needs, upstream: Tensor, tensors: Kept, kept: tuple[Tensor, Maybe], relation: str) -> Kept:
    return (unmap_rows(upstream.clone(memory_format=torch.contiguous_format), *kept, relation),)


register("row_map", Rule(_gradients, lambda x, relation: reference.ROW_MAPS[relation](x), _finish))


def row_map(x: Tensor, relation: str) -> Tensor:
    """Rows whose inner products are the relation; differentiable, 16-bit rows in float32."""
    return x if relation == "gram" else apply("row_map", (relation,), x)


def center_normalize(x: Tensor) -> Tensor:
    """Rows centred and of unit length, in the type of x."""
    return row_map(x, "pearson").to(x.dtype)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of unit length, in the type of x."""
    return row_map(x, "cosine").to(x.dtype)
