"""The doors to the kernels: what they refuse, and that the alignments and methods go through them."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd import Edges, ops
from graphkd.errors import OptionError, ShapeError
from graphkd.graphs.align import align
from graphkd.graphs.alignments import KL, kl
from graphkd.graphs.relations import RELATIONS


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_column_correlation_by_hand():  # columns (0, 2) and (1, 5) rise together, (0, 1) and (3, 2) do not
    student, teacher = tensor([[0.0, 0.0], [2.0, 1.0]]), tensor([[1.0, 3.0], [5.0, 2.0]])
    assert_close(ops.damped_column_pearson(student, teacher, 0.0), tensor([1.0, -1.0]))


def test_softmax_edges_by_hand():  # one row of two edges: teacher (3/4, 1/4), student (1/2, 1/2)
    ones, teacher = torch.ones(1, 1), tensor([[torch.log(tensor(3.0))]])
    value = ops.edge_kl(ones, torch.zeros(2, 1), teacher, tensor([[1.0], [0.0]]), "gram")
    assert_close(value, 0.75 * tensor(1.5).log() + 0.25 * tensor(0.5).log())


def test_contrast_by_hand():  # two equal candidates: log 2 for each row
    assert_close(ops.info_nce(torch.ones(3, 2), torch.ones(2, 2), tensor([0, 1, 0])), 3 * tensor(2.0).log())


@pytest.mark.parametrize("name", sorted(RELATIONS))
@pytest.mark.parametrize("alignment", [KL, kl(0.5)], ids=["kl", "kl@0.5"])
def test_an_alignment_by_softmax_needs_no_matrix(name, alignment, monkeypatch):
    relation = RELATIONS.get(name)
    s, t, u, v = randn(80, 4), randn(80, 5, seed=1), randn(90, 4, seed=2), randn(90, 5, seed=3)
    edges = Edges(s, u, relation, name=name), Edges(t, v, relation, name=name)
    expected = alignment(*(each.dense() for each in edges))
    monkeypatch.setattr(Edges, "dense", lambda self: pytest.fail("the matrix was asked for"))
    assert_close(align(*edges, alignment), expected)


def test_weighted_or_normalised_edges_are_compared_as_matrices():
    x, y = randn(8, 4), randn(8, 4, seed=1)
    unit = [Edges(each, each, RELATIONS.get("gram"), ops.unit_rows, name="gram") for each in (x, y)]
    assert_close(align(*unit, KL), KL(*(each.dense() for each in unit)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.edge_sum(x, None, x, x), ShapeError, "one network has target nodes and the other has none"),
        (lambda x: ops.edge_sum(x, None, x[1:], None), ShapeError, "differ: both graphs need the same nodes"),
        (lambda x: ops.edge_sum(x, x, x, x[1:]), ShapeError, "are other nodes"),
        (lambda x: ops.edge_sum(x, None, x.float(), None), ShapeError, "move both to one device and one type"),
        (lambda x: ops.edge_sum(x, None, x, None, "cosin"), OptionError, "unknown relation 'cosin'; known: cosine"),
        (lambda x: ops.edge_sum(x, None, x, None, "gram", "cube"), OptionError, "unknown penalty 'cube'"),
        (lambda x: ops.node_sum(x, x, offset=1), ShapeError, "from position 1 do not lie among 4 student nodes"),
        (lambda x: ops.node_sum(x, x, target="all"), OptionError, "unknown node target 'all'"),
        (lambda x: ops.ega_sums(x, x[1:]), ShapeError, r"expected nodes \(n, d\) twice"),
        (lambda x: ops.edge_kl(x, None, x[1:], None, "gram"), ShapeError, "differ"),
        (lambda x: ops.edge_kl(x, x[:, 1:], x, x, "gram"), ShapeError, "3 features, target nodes 2"),
        (lambda x: ops.info_nce(x, None, tensor([0, 1])), ShapeError, "one positive each"),
        (lambda x: ops.edge_kl(x, None, x, None, "gram", 0.0), OptionError, "temperature"),
        (lambda x: ops.info_nce(x, None, torch.arange(4), "cosin"), OptionError, "known: cosine"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(randn(4, 3))


def test_graphs_without_nodes_are_at_distance_zero():
    x = randn(0, 3)
    assert ops.edge_sum(x, None, x, None, "gram") == 0
