"""Rows scaled to unit length, centred or not, with closed-form gradients in few passes over memory.

PyTorch's layer normalisation is the centred map up to a factor, in one pass each way.
"""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels.autograd import Found, Kept, Maybe, Needs, Rule, apply, like_first, register
from graphkd_kernels.reference.distances import can_look
from graphkd_kernels.reference.edge_pkt import PKT_EPS
from graphkd_kernels.reference.rows import unit_scale

__all__ = ["center_normalize", "unit_rows"]
_NATIVE = torch.float32, torch.float64
_USUAL = 1e-15, 1e15
"""Inverse lengths of rows whose squares float32 holds."""


def map_rows(x: Tensor, relation: str) -> tuple[Tensor, Maybe]:
    """Rows whose inner products are the relation, and the inverse length of each row before (0 for a dead row).

    Beside "gram", "cosine" and "pearson" there is ``"pkt"``: the cosine with 1e-7 beside the length. Where the host
    can look at the rows, masks and scaling are for batches that need them: each costs as much as the map itself.
    """
    if relation == "gram":
        return x, None
    if not x.numel():
        return x.clone(), x.new_zeros(*x.shape[:-1], 1)
    look = can_look(x)
    if not look and relation != "pkt":
        return _map_any_size(x, relation)
    rows, inverse, usual = _map(x, relation, look)
    if usual or relation == "pkt":
        return rows, inverse
    unusual = ~((inverse > _USUAL[0]) & (inverse < _USUAL[1])).squeeze(-1)
    if unusual.any():
        rows[unusual], inverse[unusual] = _map_any_size(x[unusual], relation)
    return rows, inverse


def _map_any_size(x: Tensor, relation: str) -> tuple[Tensor, Tensor]:
    """Both for rows whose squares may under- or overflow."""
    x, power = unit_scale(x)
    rows, inverse, _ = _map(x, relation)
    return rows, inverse.div_(power).clamp_(max=torch.finfo(inverse.dtype).max)


def _map(x: Tensor, relation: str, look: bool = False) -> tuple[Tensor, Tensor, bool]:
    """Both, and whether the host looked and found all rows usual; dead rows are masked if not."""
    if relation == "pearson":
        rows, mean, inverse = _layer_norm(x)
        usual = look and _are_usual(mean, inverse)
        if not usual:
            least, steep = _limits(x.dtype)
            dead = (mean.abs() + least) * inverse >= steep  # a NaN is not, and passes
        inverse.mul_(x.shape[-1] ** -0.5)
    else:
        squares = torch.linalg.vecdot(x, x).unsqueeze(-1)
        low, high = (each.item() for each in squares.aminmax()) if look else (0.0, 0.0)
        usual = _USUAL[1] ** -2 < low and high < _USUAL[0] ** -2
        if not usual:
            dead = squares == 0
            squares.masked_fill_(dead, 1.0)
        inverse = squares.rsqrt_() if relation == "cosine" else squares.sqrt_().add_(PKT_EPS).reciprocal_()
        rows = x * inverse
    if not usual:
        rows.masked_fill_(dead, 0.0)
        inverse.masked_fill_(dead, 0.0)
    return rows, inverse, usual


def _layer_norm(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows centred and of unit length, their means, and the inverse of each root of a mean square."""
    width = x.shape[-1]
    weight = x.new_full((width,), width**-0.5)
    # The smallest eps keeps a constant row finite; which rows are constant is decided relative to their own size.
    found: tuple[Tensor, Tensor, Tensor] = torch.native_layer_norm(x, [width], weight, None, torch.finfo(x.dtype).tiny)
    return found


def _are_usual(mean: Tensor, inverse: Tensor) -> bool:
    """Whether no row is constant up to rounding, and all are of a usual size, by three numbers."""
    least, steep = _limits(mean.dtype)
    (low, high), offset = (each.item() for each in inverse.aminmax()), mean.abs().amax().item()
    return _USUAL[0] < low and high < _USUAL[1] and (offset + least) * high < steep


def _limits(dtype: torch.dtype) -> tuple[float, float]:
    """What is added to a row's mean, and the product of that and its inverse size from which the row is constant."""
    finfo = torch.finfo(dtype)
    return float(finfo.tiny**0.5 / (2 * finfo.eps)), float(0.25 / finfo.eps)


def unmap_rows(gradient: Tensor, rows: Tensor, inverse: Maybe, relation: str) -> Tensor:
    """The gradient in the rows before their map, from that in the mapped rows."""
    if inverse is None:
        return gradient
    if relation != "pearson":
        along = torch.linalg.vecdot(gradient, rows).unsqueeze(-1)
        if relation == "pkt":  # its rows are a little shorter than 1
            along = along.div_(torch.linalg.vector_norm(rows, dim=-1, keepdim=True)).masked_fill_(inverse == 0, 0.0)
        return torch.addcmul(gradient, rows, along, value=-1).mul_(inverse)
    # Layer normalisation of rows that are already centred and of unit length: only their direction matters.
    width = rows.shape[-1]
    zero, one = torch.zeros_like(inverse), torch.full_like(inverse, width**0.5)
    found: Tensor = torch.ops.aten.native_layer_norm_backward(
        gradient, rows, [width], zero, one, None, None, [True, False, False]
    )[0]
    return found.mul_(inverse * width**-0.5)


def _gradients(needs: Needs, x: Tensor, relation: str) -> Found:
    rows, inverse = map_rows(x, relation)
    return rows, (rows, inverse)


def _finish(needs: Needs, upstream: Tensor, tensors: Kept, kept: tuple[Tensor, Maybe], relation: str) -> Kept:
    return (unmap_rows(upstream, *kept, relation),)


register("row_map", Rule(_gradients, lambda x, relation: reference.ROW_MAPS[relation](x), _finish, empty=like_first))


def row_map(x: Tensor, relation: str) -> Tensor:
    """Rows whose inner products are the relation; differentiable, 16-bit rows in float32."""
    return x if relation == "gram" else apply("row_map", (relation,), x)


def center_normalize(x: Tensor) -> Tensor:
    """Rows centred and of unit length, in the type of x; usual rows by layer normalisation and its own gradient."""
    if x.dtype in _NATIVE and x.numel() and can_look(x):
        rows, mean, inverse = _layer_norm(x)
        if _are_usual(mean.detach(), inverse.detach()):
            return rows
    return row_map(x, "pearson").to(x.dtype)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of unit length, in the type of x."""
    return row_map(x, "cosine").to(x.dtype)
