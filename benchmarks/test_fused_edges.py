"""pytest benchmarks/test_fused_edges.py --benchmark-only: EGA, SP and channel graphs, fused."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.conftest import FORMS, random
from graphkd import functional, ops

SAMPLES = [pytest.param(256, 512, marks=pytest.mark.quick), (4096, 512)]
SIMILAR = [pytest.param(256, 128, marks=pytest.mark.quick), (4096, 512), (8192, 256)]
CHANNELS = [pytest.param(4, 512, 49, marks=pytest.mark.quick), (64, 2048, 49)]


def ega_official(student: Tensor, teacher: Tensor) -> Tensor:
    """As EGA's code: one matrix of both networks' correlations, un-squared norms, a gradient in the teacher as well."""
    n, d = student.shape
    x = torch.cat([teacher.detach().requires_grad_(), student])
    x = x - x.mean(1, keepdim=True)
    deviation = x.std(1)
    matrix = (x @ x.T) / (d - 1) / deviation[:, None] / deviation[None]
    node = (matrix[:n, n:] - torch.eye(n, dtype=x.dtype)).norm()
    return node + 0.3 * (matrix[n:, n:] - matrix[:n, :n]).norm()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "d"), SAMPLES)
def test_ega(race, form, n, d):
    race(f"ega-{n}x{d}", form, functional.ega, ega_official, random(n, d), random(n, d, seed=1))


def sp_official(student: Tensor, teacher: Tensor) -> Tensor:
    """As published: both matrices, rows of unit length, mean of squares."""
    return (normalize(student @ student.T) - normalize(teacher @ teacher.T)).square().mean()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "d"), SIMILAR)
def test_sp(race, form, n, d):
    race(f"sp-{n}x{d}", form, functional.similarity_preserving, sp_official, random(n, d), random(n, d, seed=1))


def channel_cosines(student: Tensor, teacher: Tensor) -> Tensor:
    """Cosines between the channels of each image, mean of squares."""
    return ops.edge_sum(student, None, teacher, None, "cosine") / (len(student) * student.shape[1] ** 2)


def channel_cosines_official(student: Tensor, teacher: Tensor) -> Tensor:
    """The same through the C x C matrices."""
    student, teacher = normalize(student, dim=-1), normalize(teacher, dim=-1)
    return (student @ student.mT - teacher @ teacher.mT).square().mean()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("b", "c", "p"), CHANNELS)
def test_channel_cosines(race, form, b, c, p):
    inputs = random(b, c, p), random(b, c, p, seed=1)
    race(f"channel_cosines-{b}x{c}x{p}", form, channel_cosines, channel_cosines_official, *inputs)


def channel_rows(student: Tensor, teacher: Tensor) -> Tensor:
    """ICKD's distance of unit rows of the channels' Gram matrices."""
    return ops.unit_edge_sum(student, None, teacher, None) / (len(student) * student.shape[1])


def channel_rows_official(student: Tensor, teacher: Tensor) -> Tensor:
    """The same through the C x C matrices."""
    grams = (normalize(x @ x.mT, dim=-1) for x in (student, teacher))
    ours, theirs = grams
    return (ours - theirs).square().sum(-1).mean()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("b", "c", "p"), CHANNELS)
def test_channel_rows(race, form, b, c, p):
    inputs = random(b, c, p), random(b, c, p, seed=1)
    race(f"channel_rows-{b}x{c}x{p}", form, channel_rows, channel_rows_official, *inputs)
