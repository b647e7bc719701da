"""pytest benchmarks/test_edge_alignment.py --benchmark-only: edges of both networks compared, with gradient."""

import pytest
import torch
from torch import Tensor

from benchmarks.conftest import FORMS, random
from graphkd import Edges, ops
from graphkd.alignments import MSE, RMS
from graphkd.relations import gram, pearson

SAMPLES = [pytest.param(256, 512, marks=pytest.mark.quick), (4096, 256)]
CLASSES = [pytest.param(64, 100, 512, marks=pytest.mark.quick), (256, 1000, 768)]


def sample_edges(student: Tensor, teacher: Tensor) -> Tensor:
    """Pearson edges between samples, mean of squares."""
    ours, theirs = (Edges(x, x, pearson, name="pearson") for x in (student, teacher))
    return ops.align(ours, theirs, MSE)


def sample_edges_official(student: Tensor, teacher: Tensor) -> Tensor:
    """As EGA's code does: one correlation matrix of both networks' nodes, then its blocks."""
    n = len(student)
    matrix = torch.corrcoef(torch.cat([teacher, student]))
    return (matrix[n:, n:] - matrix[:n, :n]).square().mean()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "d"), SAMPLES)
def test_sample_edges(race, form, n, d):
    race(f"sample_edges-{n}x{d}", form, sample_edges, sample_edges_official, random(n, d), random(n, d, seed=1))


def joined(features: Tensor, logits: Tensor) -> Tensor:
    """Nodes whose Gram is the mean of the two blocks' correlations."""
    return torch.cat([ops.center_normalize(features), ops.center_normalize(logits)], -1) * 0.5**0.5


def proxy_edges(f: Tensor, p: Tensor, z: Tensor, g: Tensor, target: Tensor) -> Tensor:
    """PRG's edges from samples to class proxies, against given ones."""
    ours = joined(f, z) @ joined(p, g).T
    return RMS(ours, target)


def proxy_edges_official(f: Tensor, p: Tensor, z: Tensor, g: Tensor, target: Tensor) -> Tensor:
    """The equation as written: a correlation for each block, then their mean."""

    def correlation(x: Tensor, y: Tensor) -> Tensor:
        x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
        return (x @ y.T) / (x.norm(dim=1)[:, None] * y.norm(dim=1)[None])

    edges = (correlation(f, p) + correlation(z, g)) / 2
    return (edges - target).norm() / edges.numel() ** 0.5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "c", "d"), CLASSES)
def test_proxy_edges(race, form, n, c, d):
    inputs = random(n, d), random(c, d, seed=1), random(n, c, seed=2), random(c, c, seed=3), random(n, c, seed=4)
    race(f"proxy_edges-{n}x{c}x{d}", form, proxy_edges, proxy_edges_official, *inputs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "c", "d"), CLASSES)
def test_gram(race, form, n, c, d):
    weight = random(n, c, seed=2)
    race(
        f"gram-{n}x{c}x{d}",
        form,
        lambda x, y: gram(x, y) * weight.to(x),
        lambda x, y: torch.einsum("nd,md->nm", x, y) * weight.to(x),
        random(n, d),
        random(c, d, seed=1),
    )
