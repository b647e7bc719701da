r"""``rkd_angle`` from squared distances, in blocks that stay in the cache; value and gradient in one sweep.

With :math:`q_{ij} = |x_i - x_j|^2`, :math:`r = q^{-1/2}` (0 for coincident nodes), the angle at i between j and k is

.. math:: a_{ijk} = r_{ij} r_{ik} (q_{ij} + q_{ik} - q_{jk}) / 2

It is symmetric in (j, k), so only k at or after the block of j is visited. With h the smooth L1's derivative,

.. math::
    \partial q_{jk} \mathrel{+}= -\tfrac12 \sum_i r_{ij} h_{ijk} r_{ik}, \qquad
    \partial q_{ij} \mathrel{+}= r_{ij} \sum_k h_{ijk} r_{ik} - r_{ij}^2 \sum_k h_{ijk} a_{ijk}

A block is passed over with whole rows: products of a matrix with one or two columns are several times slower here.
"""

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.blocks import row_slices, sum_computed_again
from graphkd_kernels._blocked.edge_blocks import pull
from graphkd_kernels.autograd import Found, Needs, Rule, apply, register, transformed
from graphkd_kernels.reference.distances import centered
from graphkd_kernels.reference.rkd_angle import angle_sides

__all__ = ["rkd_angle"]
_ENTRIES = 2**18  # of one buffer: four of them stay in the cache of two cores
_ROWS = 32  # of j in one block
_SECOND = 2**22  # entries of one block of angles in a second derivative


class _Angles:
    """What one network's nodes contribute: constant over the sweep, and the sums of its gradient."""

    def __init__(self, x: Tensor, half: Tensor, inverse: Tensor, vertices: slice, needed: bool) -> None:
        self.x, self.half, self.vertices, self.needed = x, half, vertices, needed  # half: q / 2
        self.near = inverse[vertices]  # r_ij
        self.arm = self.near * half[vertices]  # r_ij q_ij / 2
        if needed:
            self.pairs = torch.zeros_like(self.half)  # sum_i r_ij h_ijk r_ik, for k from the block of j on
            self.pulls = torch.zeros_like(self.near)  # sum_k h_ijk r_ik
            self.turns = torch.zeros_like(self.near)  # sum_k h_ijk a_ijk

    def angles(self, at: slice, rows: slice, out: Tensor) -> None:
        """Cosines at the vertices ``at`` between ``rows`` and all nodes from there on."""
        arm, near = self.arm[at], self.near[at]
        torch.addcmul(
            arm[:, None, rows.start :], near[:, None, rows.start :], self.half[rows, rows.start :], value=-1, out=out
        )
        out.mul_(near[:, rows, None]).addcmul_(arm[:, rows, None], near[:, None, rows.start :])

    def collect(self, at: slice, rows: slice, h: Tensor, angles: Tensor, spare: Tensor) -> None:
        """Add a block of derivatives to the sums."""
        later, width, near = slice(rows.stop, None), rows.stop - rows.start, self.near[at]
        torch.mul(h, angles, out=spare)
        self.turns[at, rows] += spare.sum(-1)
        self.turns[at, later] += spare[..., width:].sum(1)
        torch.mul(h, near[:, None, rows.start :], out=spare)
        self.pulls[at, rows] += spare.sum(-1)
        self.pulls[at, later] += (near[:, None, rows] @ h[..., width:]).squeeze(1)
        self.pairs[rows, rows.start :] += spare.mul_(near[:, rows, None]).sum(0)

    def gradient(self, sign: float) -> Tensor:
        """dx from the sums."""
        weights = (self.pairs.triu() + self.pairs.triu(1).mT).mul_(-0.5)
        weights[self.vertices] += self.near * self.pulls - self.near.square() * self.turns
        x, _ = centered(self.x, self.x, weights.dtype)
        return pull(weights + weights.mT, x, x).mul_(2 * sign).to(self.x.dtype)


def _gradients(needs: Needs, student: Tensor, teacher: Tensor, first: int, last: int) -> Found:
    vertices, matrices = slice(first, last), (*angle_sides(student), *angle_sides(teacher))
    dtype = torch.promote_types(matrices[0].dtype, matrices[2].dtype)  # float64 where either has close nodes
    half_s, inverse_s, half_t, inverse_t = (each.to(dtype) for each in matrices)
    of_student = _Angles(student, half_s, inverse_s, vertices, needs[0])
    of_teacher = _Angles(teacher, half_t, inverse_t, vertices, needs[1])
    value = _sweep(of_student, of_teacher)
    return value.to(student.dtype), (
        of_student.gradient(1.0) if needs[0] else None,
        of_teacher.gradient(-1.0) if needs[1] else None,
    )


def _sweep(student: _Angles, teacher: _Angles) -> Tensor:
    vertices, nodes = student.near.shape
    tall = min(nodes, _ROWS)
    buffers = student.half.new_empty(4, min(vertices * tall * nodes, max(_ENTRIES, tall * nodes)))
    total = torch.zeros((), dtype=torch.float64, device=student.half.device)
    for j in range(0, nodes, _ROWS):
        rows = slice(j, min(j + _ROWS, nodes))
        step = max(1, _ENTRIES // ((rows.stop - j) * (nodes - j)))
        for i in range(0, vertices, step):
            total += _block(student, teacher, slice(i, min(i + step, vertices)), rows, buffers)
    return total


def _block(student: _Angles, teacher: _Angles, at: slice, rows: slice, buffers: Tensor) -> Tensor:
    """Value of the angles at the vertices ``at`` between ``rows`` and all nodes from there on."""
    shape = (at.stop - at.start, rows.stop - rows.start, student.half.shape[1] - rows.start)
    angles, difference, h, spare = (each[: shape[0] * shape[1] * shape[2]].view(shape) for each in buffers)
    student.angles(at, rows, angles)
    teacher.angles(at, rows, difference)
    torch.sub(angles, difference, out=difference)  # exactly 0 where the two networks agree
    torch.clamp(difference, -1, 1, out=h)  # the derivative of smooth L1
    torch.add(difference, h, alpha=-0.5, out=spare).mul_(h)
    once, twice = spare[..., : shape[1]], spare[..., shape[1] :]  # k in the block of j, and after it
    value: Tensor = once.sum(-1).sum(dtype=torch.float64) + 2 * twice.sum(-1).sum(dtype=torch.float64)
    if student.needed:
        student.collect(at, rows, h, angles, spare)
    if teacher.needed:
        teacher.angles(at, rows, angles)
        teacher.collect(at, rows, h, angles, spare)
    return value


def _formula(student: Tensor, teacher: Tensor, first: int, last: int) -> Tensor:
    """The reference on blocks of vertices, each computed again in its backward pass."""

    def angles(part: slice) -> Tensor:
        return reference.rkd_angle(student, teacher, first + part.start, first + part.stop)

    parts = row_slices(last - first, len(student) ** 2, _SECOND)
    if len(parts) <= 1 or transformed():
        return angles(slice(0, last - first))
    return sum_computed_again(angles, parts)


register("rkd_angle", Rule(_gradients, _formula, compiled="operator"))


def rkd_angle(student: Tensor, teacher: Tensor, first: int, last: int) -> Tensor:
    """Sum of the smooth-L1 differences of the angles at the nodes in [first, last)."""
    return apply("rkd_angle", (first, last), student, teacher)
