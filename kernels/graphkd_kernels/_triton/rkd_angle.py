r"""``rkd_angle`` from squared distances q and r = q^(-1/2): n^3 work, n^2 memory, no feature dimension in the cube.

.. math:: a_{ijk} = r_{ij} r_{ik} (q_{ij} + q_{ik} - q_{jk}) / 2

is the angle at i. With h the derivative of smooth L1, two kernels hold a tile each and walk over the third index:

.. math::
    \partial q_{jk} = -\tfrac12 \sum_i h_{ijk} r_{ij} r_{ik}, \qquad
    \partial q_{ij} = r_{ij} \sum_k h_{ijk} r_{ik} - r_{ij}^2 \sum_k h_{ijk} a_{ijk}.

The second counts both arms. Coincident nodes have r = 0: no angle, no gradient.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._triton import node_blocks
from graphkd_kernels._triton.configs import angle_tile, math
from graphkd_kernels._triton.kernel_rule import fit, kernel_rule
from graphkd_kernels._triton.launch import empty, launch
from graphkd_kernels._triton.squares import to_squares
from graphkd_kernels._triton.tiles import huber_slope, load, triangle, upper_tile
from graphkd_kernels.autograd import Found, Maybe, Needs, apply

__all__ = ["rkd_angle"]


@triton.jit
def _vector(ptr, row, index, n):
    """Entries of one row of a matrix (n, n), 0 outside."""
    return tl.load(ptr + tl.cast(row, tl.int64) * n + index, mask=index < n, other=0.0)


@triton.jit(do_not_specialize=["first", "last", "tiles"])
def angle_pairs_kernel(
    qs_ptr, rs_ptr, qt_ptr, rt_ptr, value_ptr, ds_ptr, dt_ptr, n, first, last, tiles,
    ROWS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Sums of a tile (j, k) over all vertices i; those above the diagonal count twice and are stored twice."""
    j_tile, k_tile, fresh = upper_tile(tl.program_id(0), tiles)
    total = tl.zeros([ROWS, ROWS], SUMS)
    if fresh:
        j, k = j_tile * ROWS + tl.arange(0, ROWS), k_tile * ROWS + tl.arange(0, ROWS)
        qs, qt = load(qs_ptr, j, k, n, n, n), load(qt_ptr, j, k, n, n, n)
        ds, dt = tl.zeros([ROWS, ROWS], SUMS), tl.zeros([ROWS, ROWS], SUMS)
        for i in range(first, last):
            rs = _vector(rs_ptr, i, j, n)[:, None] * _vector(rs_ptr, i, k, n)[None, :]
            rt = _vector(rt_ptr, i, j, n)[:, None] * _vector(rt_ptr, i, k, n)[None, :]
            s = _vector(qs_ptr, i, j, n)[:, None] + _vector(qs_ptr, i, k, n)[None, :] - qs
            t = _vector(qt_ptr, i, j, n)[:, None] + _vector(qt_ptr, i, k, n)[None, :] - qt
            gap = 0.5 * (rs * s - rt * t)
            h = huber_slope(gap)
            total += h * (gap - 0.5 * h)
            if ds_ptr is not None:
                ds += h * rs
            if dt_ptr is not None:
                dt += h * rt
        keep = (j < n)[:, None] & (k < n)[None, :]
        there, mirror = j.to(tl.int64)[:, None] * n + k[None, :], k.to(tl.int64)[None, :] * n + j[:, None]
        if ds_ptr is not None:
            tl.store(ds_ptr + there, -0.5 * ds, mask=keep)
            if j_tile != k_tile:
                tl.store(ds_ptr + mirror, -0.5 * ds, mask=keep)
        if dt_ptr is not None:
            tl.store(dt_ptr + there, 0.5 * dt, mask=keep)
            if j_tile != k_tile:
                tl.store(dt_ptr + mirror, 0.5 * dt, mask=keep)
    count = tl.where(fresh, tl.where(j_tile == k_tile, 1.0, 2.0), 0.0)
    tl.store(value_ptr + tl.program_id(0), tl.sum(total).to(tl.float64) * count)


@triton.jit(do_not_specialize=["first", "last", "tiles"])
def angle_arms_kernel(
    qs_ptr, rs_ptr, qt_ptr, rt_ptr, ds_ptr, dt_ptr, n, first, last, tiles,
    ROWS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Add a tile (i, j) of the gradient, summed over k; vertices i are those from first to last."""
    i = first + (tl.program_id(0) // tiles) * ROWS + tl.arange(0, ROWS)
    j = (tl.program_id(0) % tiles) * ROWS + tl.arange(0, ROWS)
    qs, qt = load(qs_ptr, i, j, last, n, n), load(qt_ptr, i, j, last, n, n)
    rs, rt = load(rs_ptr, i, j, last, n, n), load(rt_ptr, i, j, last, n, n)
    pull_s, turn_s = tl.zeros([ROWS, ROWS], SUMS), tl.zeros([ROWS, ROWS], SUMS)
    pull_t, turn_t = tl.zeros([ROWS, ROWS], SUMS), tl.zeros([ROWS, ROWS], SUMS)
    for k in range(n):
        near_s, near_t = _vector(rs_ptr, k, i, n)[:, None], _vector(rt_ptr, k, i, n)[:, None]
        s = 0.5 * rs * near_s * (qs + _vector(qs_ptr, k, i, n)[:, None] - _vector(qs_ptr, k, j, n)[None, :])
        t = 0.5 * rt * near_t * (qt + _vector(qt_ptr, k, i, n)[:, None] - _vector(qt_ptr, k, j, n)[None, :])
        h = huber_slope(s - t)
        if ds_ptr is not None:
            pull_s += h * near_s
            turn_s += h * s
        if dt_ptr is not None:
            pull_t += h * near_t
            turn_t += h * t
    keep = (i < last)[:, None] & (j < n)[None, :]
    place = i.to(tl.int64)[:, None] * n + j[None, :]
    if ds_ptr is not None:
        before = tl.load(ds_ptr + place, mask=keep, other=0.0)
        tl.store(ds_ptr + place, before + rs * pull_s - rs * rs * turn_s, mask=keep)
    if dt_ptr is not None:
        before = tl.load(dt_ptr + place, mask=keep, other=0.0)
        tl.store(dt_ptr + place, before - rt * pull_t + rt * rt * turn_t, mask=keep)


class _Angles:
    """One network's centred nodes, squared distances, inverse distances, and their gradient's place."""

    def __init__(self, x: Tensor, needed: bool) -> None:
        self.x = x - x.mean(0, keepdim=True)
        self.squares = self.x @ self.x.T
        self.inverses = empty(self.squares.shape, x.dtype, x.device)
        self.slopes = empty(self.squares.shape, x.dtype, x.device) if needed else None
        own, rows = self.squares.diagonal().contiguous(), self.x.unsqueeze(0)
        to_squares(self.squares.unsqueeze(0), rows, rows, (own, own), 0, self.inverses)

    def gradient(self) -> Maybe:
        """dx = 2 sum_j (w_ij + w_ji) (x_i - x_j)."""
        if self.slopes is None:
            return None
        weights = self.slopes + self.slopes.T
        return (weights.sum(1, keepdim=True) * self.x).sub_(weights @ self.x).mul_(2)


def _gradients(needs: Needs, x: Tensor, y: Tensor, first: int, last: int) -> Found:
    student, teacher = _Angles(x, needs[0]), _Angles(y, needs[1])
    config = angle_tile(len(x), x.dtype, x.device)
    tiles = triton.cdiv(len(x), config.rows)
    values = empty((triangle(tiles),), torch.float64, x.device)
    shared = {
        "qs_ptr": student.squares, "rs_ptr": student.inverses, "qt_ptr": teacher.squares, "rt_ptr": teacher.inverses,
        "ds_ptr": student.slopes, "dt_ptr": teacher.slopes, "n": len(x), "first": first, "last": last, "tiles": tiles,
    }  # fmt: skip
    launch(angle_pairs_kernel, (len(values),), config, math(x.dtype), **shared, value_ptr=values)
    if True in needs:
        launch(angle_arms_kernel, (triton.cdiv(last - first, config.rows) * tiles,), config, math(x.dtype), **shared)
    return values.sum().to(x.dtype), (student.gradient(), teacher.gradient())


kernel_rule("triton/rkd_angle", _gradients, reference.rkd_angle)


def rkd_angle(student: Tensor, teacher: Tensor, first: int, last: int) -> Tensor:
    """Sum of the smooth-L1 differences of all angles at the nodes in [first, last): ``reference.rkd_angle``."""
    fit(student, teacher)
    return apply("triton/rkd_angle", (first, last), *node_blocks.one_type(student, teacher))
