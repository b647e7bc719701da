"""The doors of what compares row by row: what they refuse, and that the alignments and methods go through them."""

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


def test_graphs_of_other_nodes_are_refused():
    with pytest.raises(ShapeError, match="differ"):
        ops.edge_kl(randn(4, 2), None, randn(5, 2), None, "gram")
    with pytest.raises(ShapeError, match="4 features, target nodes 3"):
        ops.edge_kl(randn(4, 4), randn(4, 3), randn(4, 2), randn(4, 2), "gram")
    with pytest.raises(ShapeError, match="one positive each"):
        ops.info_nce(randn(4, 2), None, tensor([0, 1]))
    with pytest.raises(ShapeError, match="lower k"):
        ops.knn_graph(randn(4, 2), 4)
    with pytest.raises(ShapeError, match="need a basis"):
        ops.spectral_residual(randn(4, 2), randn(5, 2), randn(2))


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match="temperature"):
        ops.edge_kl(randn(4, 2), None, randn(4, 2), None, "gram", 0.0)
    with pytest.raises(OptionError, match="known: cosine"):
        ops.info_nce(randn(4, 2), None, torch.arange(4), "cosin")
