from math import log, sqrt

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError
from graphkd.graphs import alignments
from graphkd.graphs.align import align, align_nodes
from graphkd.graphs.alignments import ALIGNMENTS, Alignment
from graphkd.graphs.edges import Edges
from graphkd.graphs.relations import cosine

F64 = torch.float64
S, T = tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[1.0, 0.0], [3.0, 7.0]])  # differences 0, 2, 0, -3
EVERY = list(ALIGNMENTS)
ENTRYWISE = ["frobenius", "rms", "mse", "huber"]


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "value"),
    [("frobenius", sqrt(13)), ("rms", sqrt(13 / 4)), ("mse", 13 / 4), ("huber", (1.5 + 2.5) / 4)],
)
def test_entrywise_by_hand(name, value):
    assert_close(ALIGNMENTS.get(name)(S, T), tensor(value))


def test_rowwise_by_hand():
    student, teacher = tensor([[0.0, log(3)], [1, 1]]), tensor([[5.0, 5], [1, 1]])
    kl = log(2 / sqrt(3)) / 2  # one row of two differs
    assert_close(alignments.KL(student, teacher), tensor(kl))
    assert_close(alignments.CROSS_ENTROPY(student, teacher), tensor(kl + log(2)))
    assert_close(alignments.kl(2.0)(2 * student, 2 * teacher), tensor(kl))
    rows = tensor([[1.0, 2, 3], [3, 2, 1]]), tensor([[1.0, 3, 2], [1, 2, 3]])
    assert_close(alignments.PEARSON(*rows), tensor((0.5 + 2) / 2))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(1, 3), (3, 4), (2, 3, 4)])
def test_gradcheck(name, shape):
    student, teacher = randn(*shape).requires_grad_(), randn(*shape, seed=1)
    assert torch.autograd.gradcheck(lambda student: ALIGNMENTS.get(name)(student, teacher), student)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "cross_entropy"])
def test_equal_blocks_are_at_zero_with_a_finite_gradient(name):
    student = randn(3, 4).requires_grad_()
    value = ALIGNMENTS.get(name)(student, student.detach())
    value.backward()
    assert_close(value, torch.zeros((), dtype=F64))
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e-7


@pytest.mark.parametrize("name", EVERY)
def test_one_process_is_one_rank(name):
    alignment = ALIGNMENTS.get(name)
    assert_close(alignment.local(S, T), alignment(S, T))


def test_rms_does_not_grow_with_the_graph():
    student, teacher = randn(3, 4), randn(3, 4, seed=1)
    twice = torch.cat([student, student]), torch.cat([teacher, teacher])
    assert_close(alignments.RMS(*twice), alignments.RMS(student, teacher))
    assert_close(alignments.FROBENIUS(*twice), sqrt(2) * alignments.FROBENIUS(student, teacher))


@pytest.mark.parametrize("name", ENTRYWISE)
def test_weights_of_entries(name):
    alignment, weight = ALIGNMENTS.get(name), tensor([[1.0, 0], [1, 0]])
    assert alignment(S, T, weight) == 0
    assert_close(alignment(S, T, torch.ones(2, 2)), alignment(S, T))
    assert_close(alignment(S, T, tensor([0.0, 1.0])), alignment(S, T))  # broadcast: the columns that differ


@pytest.mark.parametrize("name", EVERY)
def test_a_nan_goes_out(name):
    student = randn(3, 4)
    student[1, 2] = torch.nan
    assert ALIGNMENTS.get(name)(student, randn(3, 4, seed=1)).isnan()


@pytest.mark.parametrize("name", EVERY)
def test_constant_rows_stay_finite(name):
    student = torch.zeros(2, 3, dtype=F64, requires_grad=True)
    ALIGNMENTS.get(name)(student, torch.ones(2, 3, dtype=F64)).backward()
    assert student.grad.isfinite().all()


def test_an_alignment_of_ones_own():
    largest = Alignment("l1", lambda s, t: (s - t).abs(), lambda value, rows, columns: value)
    assert_close(largest(S, T), tensor(5.0))


def test_align_compares_edges_with_the_weights_of_the_teacher():
    x, y = randn(3, 4), randn(3, 5, seed=1)
    weight = torch.tensor([[1.0, 0, 0]] * 3, dtype=F64)
    student, teacher = Edges(x, x, cosine), Edges(y, y, cosine, weight=weight)
    expected = alignments.MSE(cosine(x, x)[:, :1], cosine(y, y)[:, :1]) / 3
    assert_close(align(student, teacher, alignments.MSE), expected)


@pytest.mark.parametrize("alignment", [alignments.MSE, alignments.HUBER])
def test_nodes_meet_their_target(alignment):
    x, y = randn(3, 4), randn(3, 4, seed=1)
    nodes = cosine(y, x)
    assert_close(align_nodes(x, y, cosine, "identity", alignment), alignment(nodes, torch.eye(3, dtype=F64)))
    assert_close(align_nodes(x, y, "cosine", "teacher_gram", alignment), alignment(nodes, cosine(y, y)))
    mean = y.mean(0)
    relate = alignment(cosine(x - mean, y - mean), cosine(y - mean, y - mean))
    assert_close(align_nodes(x, y, "cosine", "centred_gram", alignment), relate)
    assert_close(align_nodes(x, y, "cosine", "diagonal"), 1 - nodes.diagonal().mean())
    assert_close(align_nodes(x, y, cosine, lambda s, t, *_: (s - t).sum()), (x - y).sum())


@pytest.mark.parametrize("align", [alignments.MSE, alignments.MSE.local])
def test_different_blocks_are_both_named(align):
    with pytest.raises(ShapeError, match=r"student edges \(4, 4\) and teacher edges \(3, 3\) differ: both graphs need"):
        align(torch.zeros(4, 4), torch.zeros(3, 3))


@pytest.mark.parametrize("name", ["kl", "pearson", "cross_entropy"])
def test_whole_rows_take_no_weights_of_entries(name):
    with pytest.raises(OptionError, match=f"alignment '{name}' compares whole rows, it takes no weight"):
        ALIGNMENTS.get(name)(S, T, torch.ones(2, 2))


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_temperature_is_positive(temperature):
    with pytest.raises(OptionError, match=f"temperature of a softmax is > 0, found {temperature}"):
        alignments.kl(temperature)
