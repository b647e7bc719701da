"""The dense truth of the fused operations against the published functions, loops and values worked out by hand."""

import pytest
import torch
from graphkd_kernels import reference
from torch import tensor
from torch.nn.functional import cosine_similarity, kl_div, normalize, smooth_l1_loss
from torch.testing import assert_close

from graphkd import functional
from graphkd.graphs import relations
from tests.kernels.inputs import F64, randn

X, Y, XT, YT = randn(4, 6), randn(5, 6, seed=1), randn(4, 3, seed=2), randn(5, 3, seed=3)
RELATIONS = ["gram", "cosine", "pearson", "euclidean", "squared_euclidean", "rbf"]


@pytest.mark.parametrize("relation", RELATIONS)
def test_similarity_is_the_relation_of_that_name(relation):
    named = relations.RELATIONS.get(relation)
    assert_close(reference.similarity(X, Y, relation), named(X, Y))
    assert_close(reference.similarity(X, None, relation), named(X, X))


def test_the_width_of_a_gaussian():
    assert_close(reference.similarity(tensor([[0.0]]), tensor([[2.0]]), "rbf", 0.25), tensor([[-1.0]]).exp())


@pytest.mark.parametrize("relation", RELATIONS)
def test_edge_sum_is_the_sum_over_pairs(relation):
    student, teacher = reference.similarity(X, Y, relation), reference.similarity(XT, YT, relation)
    assert_close(
        reference.edge_sum(X, Y, XT, YT, relation, "square"),
        sum((a - b) ** 2 for a, b in zip(student.flatten(), teacher.flatten(), strict=True)),
    )
    huber = smooth_l1_loss(student, teacher, reduction="sum")
    assert_close(reference.edge_sum(X, Y, XT, YT, relation, "huber"), huber)


def test_edge_sum_by_hand():  # Grams [[1, 2], [2, 4]] and [[1, 0], [0, 1]]
    student, teacher = tensor([[1.0], [2.0]]), torch.eye(2)
    assert_close(reference.edge_sum(student, None, teacher, None, "gram", "square"), tensor(4.0 + 4 + 9))
    assert_close(reference.edge_sum(student, None, teacher, None, "gram", "huber"), tensor(1.5 + 1.5 + 2.5))


def test_unit_edge_sum_by_hand():  # rows (1, 2)/sqrt 5, (2, 4)/sqrt 20 and those of I
    expected = 2 - 2 / 5**0.5 + 2 - 8 / 20**0.5
    assert_close(reference.unit_edge_sum(tensor([[1.0], [2.0]]), None, torch.eye(2), None), tensor(expected))
    rows = [normalize(a @ b.T, dim=1) for a, b in ((X, Y), (XT, YT))]
    assert_close(reference.unit_edge_sum(X, Y, XT, YT), (rows[0] - rows[1]).square().sum())


def test_edge_kl_is_that_of_the_logits():
    student, teacher = (reference.similarity(a, b, "cosine") / 0.5 for a, b in ((X, Y), (XT, YT)))
    expected = kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="sum", log_target=True)
    assert_close(reference.edge_kl(X, Y, XT, YT, "cosine", 0.5), expected)


def test_edge_pkt_is_the_published_loss():
    assert_close(reference.edge_pkt(X, None, XT, None), 16 * functional.pkt(X, XT))


def test_info_nce_by_hand():
    positives = tensor([1, 0, 4, 2])
    logits = cosine_similarity(X[:, None], Y[None], dim=-1) / 0.1
    expected = -sum(logits[i].log_softmax(0)[j] for i, j in enumerate(positives))
    assert_close(reference.info_nce(X, Y, positives, "cosine", 0.1), expected)


@pytest.mark.parametrize("relation", ["gram", "cosine", "pearson"])
@pytest.mark.parametrize("offset", [0, 2])
def test_node_sum_of_each_target(relation, offset):
    student, teacher = randn(6, 5), randn(4, 5, seed=1)
    everyone = randn(6, 5, seed=2)
    relation_matrix = reference.similarity(teacher, student, relation)
    identity = torch.eye(6, dtype=F64)[offset : offset + 4]
    sums = {
        "identity": (relation_matrix - identity).square().sum(),
        "gram": (relation_matrix - reference.similarity(teacher, everyone, relation)).square().sum(),
    }
    for target, expected in sums.items():
        assert_close(reference.node_sum(student, teacher, relation, target, offset, everyone), expected)


def test_ega_sums_are_edges_and_nodes():
    student, teacher = randn(5, 6), randn(5, 6, seed=1)
    edges, nodes = reference.ega_sums(student, teacher, "pearson")
    assert_close(edges.sqrt(), functional.ega_edge(student, teacher))
    assert_close(nodes.sqrt(), functional.ega_node(student, teacher))


def test_columns_are_the_rows_of_the_transpose():
    a, b = randn(2, 5, 3), randn(2, 5, 3, seed=1)
    expected = [[torch.corrcoef(torch.stack([a[k, :, c], b[k, :, c]]))[0, 1] for c in range(3)] for k in range(2)]
    assert_close(reference.damped_column_pearson(a, b, 0.0), torch.tensor(expected, dtype=F64))


@pytest.mark.parametrize(
    "function",
    [
        lambda s, t: reference.edge_sum(s, None, t, None, "pearson", "square"),
        lambda s, t: reference.edge_kl(s, None, t, None, "cosine", 1.0),
        lambda s, t: reference.edge_pkt(s, None, t, None),
        lambda s, t: reference.node_sum(s, t, "gram", "identity"),
    ],
)
def test_narrow_inputs_are_computed_in_float32(function):
    s, t = randn(5, 4, dtype=torch.bfloat16).requires_grad_(), randn(5, 4, seed=1, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(s, t)
    assert value.dtype == torch.float32
    assert_close(value, function(s.float(), t.float()), rtol=0, atol=0)
    assert torch.autograd.grad(value, s)[0].dtype == torch.bfloat16
