"""Edges compared by fused forms, by blocks of rows, and whole: the same value and gradient."""

import pytest
import torch
from torch.testing import assert_close

from graphkd import Edges
from graphkd.graphs import align as aligning
from graphkd.graphs import alignments
from graphkd.graphs.align import align
from graphkd.graphs.alignments import Alignment
from graphkd.graphs.edges import NORMALISERS
from graphkd.graphs.relations import RELATIONS, gram

F64 = torch.float64


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def both(relation, normalise=None, other=False, alignment=alignments.MSE, weight=None):
    """Value and student's gradient of the alignment as it comes, and of its two materialised blocks."""
    rule = None if normalise is None else NORMALISERS.get(normalise)
    results = []
    for compare in (align, lambda s, t, a: a(s.dense(), t.dense(), t.weight)):
        s, t = randn(9, 5).requires_grad_(), randn(9, 5, seed=1)
        targets = (randn(6, 5, seed=2), randn(6, 5, seed=3)) if other else (s, t)
        name = getattr(relation, "__name__", "")
        edges = [Edges(x, y, relation, rule, weight, name) for x, y in zip((s, t), targets, strict=True)]
        value = compare(*edges, alignment)
        results.append((value.detach(), torch.autograd.grad(value, s)[0]))
    return results


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("alignment", ["mse", "frobenius", "huber", "kl", "rms"])
@pytest.mark.parametrize("normalise", [None, "unit", "center"])
@pytest.mark.parametrize("relation", ["gram", "cosine", "pearson", "euclidean", "squared_euclidean", "rbf"])
def test_the_form_does_not_matter(relation, normalise, alignment, other):
    found, expected = both(RELATIONS.get(relation), normalise, other, alignments.ALIGNMENTS.get(alignment))
    assert_close(found, expected)


@pytest.fixture
def blocks(monkeypatch):
    """Rows of each block that was computed, at sizes of tests."""
    seen = []
    rows = Edges.rows
    monkeypatch.setattr(aligning, "_WHOLE", 1)
    monkeypatch.setattr(aligning, "_BLOCK", 20)
    monkeypatch.setattr(Edges, "rows", lambda edges, start, stop: seen.append(stop - start) or rows(edges, start, stop))
    return seen


def cubes(x, y):
    return gram(x, y) ** 3


cubes.pairwise = True


@pytest.mark.parametrize("normalise", [None, "unit", "center", "sum"])
@pytest.mark.parametrize("alignment", ["mse", "kl"])
def test_a_relation_of_ones_own_goes_by_rows(blocks, normalise, alignment):
    found, expected = both(cubes, normalise, alignment=alignments.ALIGNMENTS.get(alignment))
    assert_close(found, expected)
    assert max(blocks) == 2


def test_weights_go_by_rows(blocks):
    for weight in (randn(9, 9, seed=4).abs(), randn(1, 9, seed=4).abs(), randn(9, seed=4).abs()):
        assert_close(*both(RELATIONS.get("cosine"), weight=weight))
    assert blocks


def test_what_looks_at_the_whole_matrix_is_not_cut(blocks):
    assert_close(*both(cubes, "max"))
    assert_close(*both(lambda x, y: gram(x, y).softmax(0)))
    assert not blocks


def test_only_sums_of_penalties_are_fused():
    class Other(Alignment):
        pass

    assert alignments.MSE.kernel == ("square",)
    assert Other("other", alignments.MSE.penalty, alignments.MSE.outer).kernel == ()
