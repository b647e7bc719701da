from functools import partial

import pytest
import torch
from torch import tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.nn import SimpleConv

from graphkd.errors import GraphError, OptionError
from graphkd.graphs.edges import NORMALISERS, Edges
from graphkd.graphs.relations import cosine, euclidean, gram, pearson, rbf, squared_euclidean

F64 = torch.float64
MATRIX = tensor([[1.0, 3.0], [0.0, 2.0]])


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unit", [[1 / 10**0.5, 3 / 10**0.5], [0, 1]]),
        ("center", [[-1, 1], [-1, 1]]),
        ("sum", [[0.25, 0.75], [0, 1]]),
        ("mean", [[0.5, 1.5], [0, 1]]),  # mean of the positive entries: 2
        ("max", [[1 / 3, 1], [0, 2 / 3]]),
    ],
)
def test_normalisers_by_hand(name, expected):
    assert_close(NORMALISERS.get(name)(MATRIX), tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("name", list(NORMALISERS))
def test_normalisers_gradcheck(name):
    assert torch.autograd.gradcheck(NORMALISERS.get(name), (randn(3, 4).abs() + 0.1).requires_grad_())


@pytest.mark.parametrize("name", list(NORMALISERS))
def test_all_zero_edges_stay_zero_and_finite(name):
    edges = torch.zeros(2, 3, dtype=F64, requires_grad=True)
    result = NORMALISERS.get(name)(edges)
    result.sum().backward()
    assert (result == 0).all()
    assert edges.grad.isfinite().all()


@pytest.mark.parametrize("name", list(NORMALISERS))
def test_a_nan_goes_out(name):
    edges = randn(3, 4).abs()
    edges[1, 2] = torch.nan
    assert NORMALISERS.get(name)(edges)[1, 2].isnan()


def test_dense_by_hand():
    edges = Edges(tensor([[3.0, 4.0]]), tensor([[1.0, 0.0], [0.0, 2.0]]), cosine, NORMALISERS.get("center"))
    assert_close(edges.dense(), tensor([[-0.1, 0.1]]))


@pytest.mark.parametrize(("source", "target"), [((1, 4), (1, 4)), ((3, 4), (5, 4)), ((2, 3, 4), (2, 5, 4))])
def test_shape_is_that_of_the_matrix(source, target):
    edges = Edges(randn(*source), randn(*target), gram)
    assert edges.shape == tuple(edges.dense().shape)


def test_topk_by_hand():
    edges = Edges(tensor([[1.0], [3.0], [2.0]]), tensor([[1.0], [-1.0]]), gram)
    index, values = edges.topk(2)
    assert index.tolist() == [[1, 2, 0, 2], [0, 0, 1, 1]]  # from sources to targets
    assert values.tolist() == [3, 2, -1, -2]


def test_laplacian_and_embedding_of_a_path():  # 1 - 2 - 3, by squared hand: I - D^-1/2 W D^-1/2
    x = tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    edges = Edges(x, x, gram)
    r = 2**-0.5
    assert_close(edges.laplacian(), tensor([[1, -r, 0], [-r, 1, -r], [0, -r, 1]]))
    assert_close(edges.spectral_embedding(1).abs(), tensor([[r], [0], [r]]), atol=1e-6, rtol=0)


def test_keys_tell_computations_apart():
    x = randn(2, 3)
    assert Edges(x, x, cosine, name="cosine").key == "cosine/"
    unit = NORMALISERS.get("unit")
    assert Edges(x, x, cosine, unit, name="cosine").key == f"cosine/{unit.__name__}"
    assert Edges(x, x, cosine, weight=x, name="cosine").key == "cosine//weighted"


@pytest.mark.parametrize("name", ["cosine", "", "mine"])
def test_a_relation_of_ones_own_never_gets_the_fused_form_of_ours(name):
    x = randn(2, 3)
    assert Edges(x, x, lambda a, b: a @ b.mT, name=name).key == "custom/"
    assert Edges(x, x, partial(rbf, gamma=2.0), name="rbf").key == "custom/"


def test_nothing_is_computed_until_asked():
    def never(x, y):
        raise AssertionError

    edges = Edges(randn(3, 4), randn(2, 4), never, name="never")
    assert edges.shape == (3, 2)
    assert repr(edges) == "Edges(never, 3 x 2, implicit)"


@pytest.mark.parametrize("k", [0, 4])
def test_topk_says_how_many_there_are(k):
    with pytest.raises(OptionError, match=f"each target has 3 edges, {k} were asked for: lower k"):
        Edges(randn(3, 4), randn(2, 4), gram).topk(k)


@pytest.mark.parametrize("ask", [lambda e: e.topk(1), lambda e: e.nearest(1), lambda e: e.nearest()])
def test_neighbours_are_of_one_graph_before_it_is_gathered(ask):
    with pytest.raises(GraphError, match=r"expected one graph \(n, d\), found a batch \(2, 3, 4\): take one"):
        ask(Edges(randn(2, 3, 4), randn(2, 3, 4), gram))
    with pytest.raises(GraphError, match="reach the targets of all ranks.* ask before gather"):
        ask(Edges(randn(3, 4), randn(3, 4), gram, rows_of_ranks=(3, 3)))


def test_a_convolution_over_topk_aggregates_each_nodes_own_neighbours():
    x = randn(6, 3)
    index, _ = Edges(x, x, cosine).topk(3)
    own = cosine(x, x).topk(3, dim=1).indices
    assert_close(SimpleConv("sum")(x, index), x[own].sum(1))


def test_nearest_by_hand():
    x = tensor([[0.0], [1.0], [3.0], [7.0]])
    index, values = Edges(x, x, euclidean).nearest(2)
    assert index.tolist() == [[1, 2, 0, 2, 1, 0, 2, 1], [0, 0, 1, 1, 2, 2, 3, 3]]
    assert values.tolist() == [1, 3, 1, 2, 2, 3, 4, 6]


def by_a_loop(edges, k):
    """Neighbours of each target by sorting its column."""
    matrix, itself = edges.dense(), edges.source is edges.target
    sign = 1 if edges.relation in (euclidean, squared_euclidean) else -1
    for target in range(matrix.shape[1]):
        order = (sign * matrix[:, target]).argsort().tolist()
        for source in [each for each in order if not (itself and each == target)][:k]:
            yield source, target, matrix[source, target]


def doubled(x, y):  # says nothing of itself, so that the whole matrix is asked
    return 2 * x @ y.mT


@pytest.mark.parametrize("relation", [cosine, pearson, gram, euclidean, squared_euclidean, rbf, doubled])
@pytest.mark.parametrize("targets", [None, 5])
@pytest.mark.parametrize("rule", [None, "sum"])
@pytest.mark.parametrize("k", [1, 4, 100, None])
def test_nearest_by_a_loop(relation, targets, rule, k, monkeypatch):
    monkeypatch.setattr("graphkd.graphs.edges._BLOCK", 20)
    x = randn(9, 6)
    x[3] = 0  # all its products are 0, so that any are its nearest
    y = x if targets is None else randn(targets, 6, seed=1)
    edges = Edges(x, y, relation, rule and NORMALISERS.get(rule))
    index, values = edges.nearest(k)
    sources, receivers, expected = zip(*by_a_loop(edges, 9 if k is None else k), strict=True)
    assert index[1].tolist() == list(receivers)
    assert_close(values, torch.stack(expected))
    assert_close(edges.dense()[index[0], index[1]], values)
    others = [i for i, each in enumerate(receivers) if each != 3]
    assert index[0][others].tolist() == [sources[i] for i in others]


@pytest.mark.parametrize("relation", [cosine, pearson, gram, euclidean, rbf, doubled])
@pytest.mark.parametrize("targets", [None, 5])
@pytest.mark.parametrize("k", [1, 4])
def test_topk_is_that_of_the_matrix(relation, targets, k, monkeypatch):
    monkeypatch.setattr("graphkd.graphs.edges._BLOCK", 20)
    x = randn(9, 6)
    edges = Edges(x, x if targets is None else randn(targets, 6, seed=1), relation)
    index, values = edges.topk(k)
    expected = edges.dense().mT.topk(k, dim=1)
    assert index[0].view(-1, k).tolist() == expected.indices.tolist()
    assert_close(values.view(-1, k), expected.values)


def test_nearest_edges_have_the_gradient_of_the_matrix():
    x = randn(6, 3).requires_grad_()
    edges = Edges(x, x, cosine)
    index, values = edges.nearest(2)
    (found,) = torch.autograd.grad(values.square().sum(), x)
    (expected,) = torch.autograd.grad(edges.dense()[index[0], index[1]].square().sum(), x)
    assert_close(found, expected)


@pytest.mark.parametrize(("relation", "targets"), [(cosine, None), (rbf, None), (gram, None), (cosine, 4096)])
def test_neighbours_make_no_matrix_of_all_pairs(relation, targets):
    class Largest(TorchDispatchMode):
        entries = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            for each in found if isinstance(found, tuple | list) else (found,):
                self.entries = max(self.entries, each.numel() if isinstance(each, torch.Tensor) else 0)
            return found

    x = randn(4096, 4)
    with Largest() as largest:
        edges = Edges(x, x if targets is None else randn(targets, 4, seed=1), relation)
        edges.nearest(3), edges.topk(3)
    assert largest.entries <= 2**22 < 4096**2


def test_one_node_has_no_neighbour():
    x = randn(1, 3)
    assert Edges(x, x, cosine).nearest(8)[0].shape == (2, 0)


@pytest.mark.parametrize("k", [0, -1])
def test_a_number_of_neighbours_is_positive(k):
    with pytest.raises(OptionError, match=f"k is a number of neighbours >= 1, or None for all, found {k}"):
        Edges(randn(3, 4), randn(2, 4), gram).nearest(k)


@pytest.mark.parametrize("ask", [lambda e: e.laplacian(), lambda e: e.spectral_embedding(1)])
def test_a_laplacian_is_of_one_node_set(ask):  # as many samples as classes are still two sets
    with pytest.raises(GraphError, match="needs edges of a node set with itself, found Edges\\(gram, 3 x 3"):
        ask(Edges(randn(3, 4), randn(3, 4, seed=1), gram, name="gram"))
