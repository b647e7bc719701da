"""Sums over pairs by Gram matrices, on one rank: the dense value and gradients; what is exchanged by several is in
tests/distributed/test_traffic.py."""

import pytest
import torch
from graphkd_kernels import reference
from torch import nn
from torch.testing import assert_close

from graphkd import distributed, ops
from graphkd.distributed import grams
from graphkd.graphs.edges import NORMALISERS
from graphkd.graphs.relations import RELATIONS
from tests.kernels.inputs import F64, randn, relative, value_and_gradients, worst

INNER = ["gram", "cosine", "pearson"]
RULES = {"": None, "_center": "center", "unit_rows": "unit"}


def dense(relation, rule):
    normalise = NORMALISERS.get(RULES[rule]) if rule else lambda edges: edges

    def value(student, teacher):
        edges = [normalise(RELATIONS.get(relation)(x, x)) for x in (student, teacher)]
        return (edges[0] - edges[1]).square().sum()

    return value


def fused(relation, rule):
    return lambda student, teacher: grams.edges(student, teacher, relation, rule, len(student))


@pytest.mark.parametrize("relation", INNER)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("width", [5, 7])
def test_edges(relation, rule, width):
    inputs = 1 + randn(40, 5), randn(40, width, seed=1)
    assert worst(fused(relation, rule), dense(relation, rule), inputs) < 1e-11


@pytest.mark.parametrize("relation", INNER)
@pytest.mark.parametrize("rule", RULES)
def test_near_convergence_float32_keeps_its_digits(relation, rule):
    teacher = nn.functional.normalize(randn(500, 16), dim=1).float()
    student = teacher + 1e-3 * randn(500, 16, seed=1, dtype=torch.float32)
    one = torch.ones((), dtype=F64)
    exact, (expected, _) = value_and_gradients(dense(relation, rule), (student.double(), teacher.double()), one)
    found, (gradient, _) = value_and_gradients(fused(relation, rule), (student, teacher), one.float())
    assert relative(found, exact) < 1e-3
    assert relative(gradient, expected) < 1e-3


@pytest.mark.parametrize("relation", INNER)
@pytest.mark.parametrize("target", ["identity", "gram"])
def test_nodes(relation, target):
    inputs = randn(40, 5), randn(40, 5, seed=1)
    found = worst(
        lambda s, t: grams.nodes(s, t, relation, target, len(s)),
        lambda s, t: reference.node_sum(s, t, relation, target),
        inputs,
    )
    assert found < 1e-11


@pytest.mark.parametrize("relation", INNER)
def test_edges_and_nodes(relation):
    inputs = randn(40, 5), randn(40, 5, seed=1)
    found = worst(
        lambda s, t: grams.edges_and_nodes(s, t, relation, len(s)),
        lambda s, t: reference.ega_sums(s, t, relation),
        inputs,
    )
    assert found < 1e-11


@pytest.mark.parametrize("rule", RULES)
def test_dead_rows_have_no_edges_and_no_gradient(rule):
    inputs = randn(40, 5), randn(40, 5, seed=1)
    for each in inputs:
        each[3] = 0
    found, gradients = value_and_gradients(fused("cosine", rule), inputs)
    assert_close(found, dense("cosine", rule)(*inputs))
    for each in gradients:
        assert each.isfinite().all()
        assert (each[3] == 0).all()


@pytest.mark.parametrize(("width", "dtype"), [(5, torch.float32), (7, F64)])
def test_matrices_are_exchanged_where_there_are_more_samples_than_features(width, dtype):
    student, teacher = randn(1, 5, dtype=dtype), randn(1, width, dtype=dtype)
    fewest = next(n for n in range(1, 100) if grams.fewer_bytes(student, teacher, n))
    assert fewest == {5: 6, 7: 8}[width]  # (s + t)(s + t + 1) numbers against n (3 s + t)
    assert not grams.fewer_bytes(student, teacher, fewest, exchanges=2)


def test_float32_of_unequal_widths_exchanges_float64():
    student, teacher = randn(1, 5, dtype=torch.float32), randn(1, 7, dtype=torch.float32)
    assert not grams.fewer_bytes(student, teacher, 14)
    assert grams.fewer_bytes(student, teacher, 15)


def test_nodes_are_gathered_for_what_has_no_such_form():
    x = randn(40, 5)
    assert grams.edges(x, x, "euclidean", "", 40) is None
    assert grams.edges(x, x, "gram", "_max", 40) is None
    assert grams.edges(x, x, "gram", "", 5) is None
    assert grams.edges(x.unsqueeze(0), x.unsqueeze(0), "gram", "", 40) is None
    assert grams.nodes(x, x, "rbf", "identity", 40) is None
    assert grams.nodes(x, x, "gram", "", 40) is None
    assert grams.edges_and_nodes(x, x, "gram", 5) is None


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_an_upper_triangle_survives_folding(size):
    upper = randn(size, size).triu()
    folded = grams._fold(upper)
    assert folded.numel() == (size + 1) // 2 * (size + 1)
    assert_close(grams._unfold(folded, size), upper)


def test_one_rank_is_the_operation():
    x, y = randn(9, 4), randn(9, 4, seed=1)
    assert_close(grams.damped_column_pearson(x, y, 1e-8, 9), ops.damped_column_pearson(x, y, 1e-8))


@pytest.fixture
def alone(monkeypatch):
    """The form of several ranks, with nobody to exchange with."""
    monkeypatch.setattr(distributed, "total", lambda value: value)
    monkeypatch.setattr(distributed, "common_total", lambda value: value)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_sums_give_the_same_values_and_gradients(alone, offset):
    inputs = offset + randn(9, 4), offset + randn(9, 4, seed=1)
    inputs[0][:, 2] = offset
    found, gradients = value_and_gradients(lambda x, y: grams.damped_column_pearson(x, y, 1e-8, 9), inputs)
    expected, whole = value_and_gradients(lambda x, y: ops.damped_column_pearson(x, y, 1e-8), inputs)
    assert found[2] == 0
    assert_close(found, expected)
    assert_close(gradients, whole)


def test_a_nan_in_a_column_goes_out(alone):
    x = randn(9, 4)
    x[3, 1] = torch.nan
    assert grams.damped_column_pearson(x, randn(9, 4, seed=1), 1e-8, 9).isnan().tolist() == [
        False,
        True,
        False,
        False,
    ]
