from functools import partial
from math import exp

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd import ops
from graphkd.errors import ShapeError
from graphkd.graphs.relations import RELATIONS, cosine, euclidean, gram, pearson, rbf, squared_euclidean

F64 = torch.float64
EVERY = [pytest.param(RELATIONS.get(name), id=name) for name in RELATIONS]


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("relation", "x", "y", "value"),
    [
        (pearson, [1.0, 2, 3], [1.0, 3, 2], 0.5),  # centred (-1, 0, 1) and (-1, 1, 0): 1 / (sqrt(2) * sqrt(2))
        (cosine, [3.0, 4], [1.0, 0], 0.6),
        (gram, [3.0, 4], [1.0, 2], 11),
        (euclidean, [0.0, 0], [3.0, 4], 5),
        (squared_euclidean, [0.0, 0], [3.0, 4], 25),
        (rbf, [0.0], [1.0], exp(-1)),
        (partial(rbf, gamma=0.25), [0.0], [2.0], exp(-1)),
    ],
)
def test_by_hand(relation, x, y, value):
    assert_close(relation(tensor([x]), tensor([y])), tensor([[float(value)]]))


@pytest.mark.parametrize("relation", EVERY)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2)])
def test_gradcheck(relation, n, m):
    assert torch.autograd.gradcheck(relation, (randn(n, 4).requires_grad_(), randn(m, 4, seed=1).requires_grad_()))


@pytest.mark.parametrize("relation", [cosine, gram, pearson, rbf, squared_euclidean])  # not the kink of a distance at 0
def test_gradcheck_of_a_node_set_with_itself(relation):
    assert torch.autograd.gradcheck(lambda x: relation(x, x), randn(3, 4).requires_grad_())


def test_gradient_of_distances_between_distinct_nodes():
    off = ~torch.eye(3, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: euclidean(x, x)[off], randn(3, 4).requires_grad_())


@pytest.mark.parametrize("relation", EVERY)
@pytest.mark.parametrize("n", [1, 63])
def test_itself_equals_a_copy_of_itself(relation, n):
    x = randn(n, 60)
    assert_close(relation(x, x), relation(x, x.clone()))


@pytest.mark.parametrize("relation", EVERY)
def test_exchange_transposes(relation):
    x, y = randn(3, 4), randn(5, 4, seed=1)
    assert_close(relation(x, y), relation(y, x).mT)


@pytest.mark.parametrize("relation", EVERY)
def test_batches_of_graphs(relation):
    x, y = randn(2, 3, 4), randn(2, 5, 4, seed=1)
    assert_close(relation(x, y), torch.stack([relation(a, b) for a, b in zip(x, y, strict=True)]))


@pytest.mark.parametrize("n", [1, 63, 500])
def test_pearson_ignores_shift_and_positive_scale(n):
    x = randn(n, 60)
    assert_close(pearson(3 * x + 7, x), pearson(x, x))


def test_pearson_gradient_is_orthogonal_to_shift_and_scale():
    x, y = randn(4, 6).requires_grad_(), randn(5, 6, seed=1)
    (grad,) = torch.autograd.grad((pearson(x, y) * randn(4, 5, seed=2)).sum(), x)
    assert_close(grad.sum(-1), torch.zeros(4, dtype=F64))
    assert_close((grad * x).sum(-1), torch.zeros(4, dtype=F64))


def test_cosine_ignores_positive_scale_only():
    x = randn(3, 6)
    assert_close(cosine(2 * x, x), cosine(x, x))
    assert not torch.allclose(cosine(x + 7, x), cosine(x, x))


@pytest.mark.parametrize("relation", [euclidean, squared_euclidean, rbf])
def test_distances_ignore_a_common_shift(relation):
    x, y = randn(3, 6), randn(4, 6, seed=1)
    assert_close(relation(x + 5, y + 5), relation(x, y))


@pytest.mark.parametrize(
    ("relation", "row"), [(pearson, 0.0), (pearson, 0.3), (cosine, 0.0), (gram, 0.0), (euclidean, 0.0)]
)
def test_dead_and_equal_nodes_stay_finite(relation, row):
    x = torch.full((3, 5), row, dtype=F64)
    x[2] = randn(5)
    x.requires_grad_()
    edges = relation(x, x)
    edges.sum().backward()
    assert (edges[:2, :2] == 0).all()
    assert edges.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("relation", [pearson, cosine])
def test_a_dead_node_gets_no_gradient(relation):
    x = torch.zeros(2, 5, dtype=F64)
    x[1] = randn(5)
    x.requires_grad_()
    (relation(x, x) * randn(2, 2, seed=1)).sum().backward()
    assert (x.grad[0] == 0).all()


@pytest.mark.parametrize("relation", EVERY)
def test_a_nan_goes_out(relation):
    x = randn(3, 4)
    x[1, 0] = torch.nan
    edges = relation(x, randn(2, 4, seed=1))
    assert edges[1].isnan().all()
    assert edges[0].isfinite().all()


@pytest.mark.parametrize("name", ["cosine", "gram", "pearson"])
def test_a_row_map_makes_the_relation_a_gram(name):
    x, y = randn(3, 4), randn(5, 4, seed=1)
    assert_close(gram(ops.row_map(x, name), ops.row_map(y, name)), RELATIONS.get(name)(x, y))


@pytest.mark.parametrize("relation", EVERY)
def test_both_widths_are_named(relation):
    with pytest.raises(ShapeError, match="4 features, target nodes 5: project one side first"):
        relation(torch.zeros(2, 4), torch.zeros(2, 5))
