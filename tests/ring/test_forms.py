"""Normalisers and penalties from sums over blocks: those of the whole matrix, degenerate rows included."""

import pytest
import torch
from torch.testing import assert_close

from graphkd.graphs import edges
from graphkd.graphs.alignments import ALIGNMENTS, kl
from graphkd.graphs.edges import NORMALISERS
from graphkd.ring import forms
from graphkd.ring import pairs as module
from graphkd.ring.pairs import Pairs, itself
from tests.kernels.inputs import randn


@pytest.fixture(autouse=True)
def pieces(monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", 21)  # three rows at once


def matrices(kind):
    """Two matrices of edges, given as rows of themselves: a block relates a source with all targets."""
    s, t = randn(7, 7, seed=1), randn(7, 7, seed=2)
    if kind == "dead rows":
        s[2], t[4] = 0, 3
    if kind == "no positive entry":
        s, t = -s.abs(), -t.abs()
    if kind == "large":
        s, t = 800 * s, 800 * t
    if kind == "equal":
        s = t.clone()
    return s.requires_grad_(), t.requires_grad_()


def passing(s, t):
    return Pairs((s, t), (torch.zeros(7, 1, dtype=s.dtype),), (7,), lambda own, theirs, first, start: own)


KINDS = ["plain", "dead rows", "no positive entry", "large", "equal"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["unit", "center", "sum", "mean", "max"])
def test_rules(rule, kind):
    s, t = matrices(kind)
    normalise = NORMALISERS.get(rule)
    expected = (normalise(s) * normalise(t)).sum()
    found = edges.PASSES[normalise](passing(s, t)).sum(lambda x, y: (x * y).sum(-1, keepdim=True)).sum()
    assert_close(found, expected)
    for own, other in zip(*(torch.autograd.grad(each, (s, t)) for each in (found, expected)), strict=True):
        assert_close(own, other)


def test_unit_rows_of_tiny_edges_have_a_gradient():
    x = randn(7, 7, dtype=torch.float32)
    found = []
    for size in (1.0, 2.0**-50):
        s = (size * x).requires_grad_()
        value = forms.unit(passing(s, x)).sum(lambda s, t: (s * x[:1]).sum(-1, keepdim=True)).sum()
        found.append((value, size * torch.autograd.grad(value, s)[0]))
    assert_close(*found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mse", "huber", "kl", "kl@4", "pearson", "cross_entropy"])
def test_penalties(name, kind):
    s, t = matrices(kind)
    alignment = kl(4.0) if name == "kl@4" else ALIGNMENTS.get(name)
    expected, found = alignment.local_sum(s, t), alignment.passes(passing(s, t))
    assert_close(found, expected)
    for own, other in zip(*(torch.autograd.grad(each, (s, t)) for each in (found, expected)), strict=True):
        assert_close(own, other)


def test_contrast_is_the_cross_entropy_of_the_diagonal():
    x, y = randn(7, 3, seed=1), randn(7, 3, seed=2)

    def values(own, theirs, first, start):
        scores = 100 * own[0] @ theirs[0].T
        return scores, torch.where(itself(own[0], theirs[0], first, start), scores, 0.0)

    expected = torch.nn.functional.cross_entropy(100 * x @ y.T, torch.arange(7), reduction="sum")
    assert_close(forms.contrast(Pairs((x,), (y,), (7,), values)), expected)


@pytest.mark.parametrize("rule", ["unit", "center", "sum", "max"])
def test_a_nan_goes_out(rule):
    s, t = matrices("plain")
    with torch.no_grad():
        s[1, 1] = torch.nan
    found = edges.PASSES[NORMALISERS.get(rule)](passing(s, t)).sum(lambda x, y: (x * y).sum(-1, keepdim=True)).sum()
    assert found.isnan()


def test_alignments_of_whole_rows_have_none():
    from graphkd.graphs.alignments import MSE, Alignment

    assert Alignment("worst", lambda s, t: (s - t).abs().amax(-1), MSE.outer).passes is None
