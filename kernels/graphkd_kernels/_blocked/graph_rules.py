"""RKD, nearest neighbours and the spectral residual as differentiable operations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked import knn as neighbours
from graphkd_kernels._blocked import rkd_angle as angles
from graphkd_kernels._blocked import rkd_distance as distances
from graphkd_kernels._blocked import spectral
from graphkd_kernels._blocked.blocks import row_slices, sum_computed_again
from graphkd_kernels._blocked.opaque import BlockRule
from graphkd_kernels.autograd import Maybe, Needs, Options, apply, register, transformed
from graphkd_kernels.precision import widened

_ANGLES = 2**22  # entries of one block of angles in a second derivative


class Distances(BlockRule):
    """RKD's distances; the second derivative holds matrices of all pairs."""

    def sweep(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """Value and gradients."""
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        return distances.value_and_gradients(student, teacher, (needs[0], needs[1]))

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The reference."""
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        return reference.rkd_distance(student, teacher)


class Angles(BlockRule):
    """RKD's angles; the second derivative takes blocks of vertices, each computed again in its backward pass."""

    def sweep(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """Value and gradients."""
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        first, last = options
        return angles.value_and_gradients(student, teacher, first, last, (needs[0], needs[1]))

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The reference on blocks of vertices."""
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        first, last = options
        parts = row_slices(last - first, len(student) ** 2, _ANGLES)
        if len(parts) <= 1 or transformed():
            return reference.rkd_angle(student, teacher, first, last)

        def angles(part: slice) -> Tensor:
            value: Tensor = reference.rkd_angle(student, teacher, first + part.start, first + part.stop)
            return value

        return sum_computed_again(angles, parts)


register("rkd_distance", Distances())
register("rkd_angle", Angles())


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean smooth-L1 difference of all distances, each side's divided by their mean."""
    return apply("rkd_distance", (), student, teacher)


def rkd_angle(student: Tensor, teacher: Tensor, first: int, last: int) -> Tensor:
    """Sum of the smooth-L1 differences of the angles at the nodes in [first, last)."""
    return apply("rkd_angle", (first, last), student, teacher)


@torch.library.custom_op("graphkd::nearest", mutates_args=())
def _nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return neighbours.nearest(x, k)


@_nearest.register_fake
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(len(x), k, dtype=torch.int64), x.new_empty(len(x), k)


@widened
def knn(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances of each row's k nearest other rows, nearest first."""
    if transformed():
        return reference.knn(x, k)
    found: tuple[Tensor, Tensor] = _nearest(x.detach(), k)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return found
    return found[0], (x.unsqueeze(1) - x[found[0]]).square().sum(-1)


def knn_graph(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest neighbours as PyG's edges, and squared distances."""
    indices, squares = knn(x, k)
    nodes = torch.arange(len(x), device=x.device).repeat_interleave(k)
    return torch.stack([indices.flatten(), nodes]), squares.flatten()


@widened
def spectral_residual(xs: Tensor, basis: Tensor, values: Tensor, affinity: str = "gram", gamma: float = 1.0) -> Tensor:
    """|L U - U diag(values)|^2 of each graph."""
    if affinity == "gram":
        return spectral.low_rank(xs, basis, values)
    return spectral.gaussian(xs, basis, values, gamma, again=not transformed())


OPERATIONS: dict[str, Callable[..., Any]] = {
    "rkd_distance": rkd_distance,
    "rkd_angle": rkd_angle,
    "knn": knn,
    "knn_graph": knn_graph,
    "spectral_residual": spectral_residual,
}
