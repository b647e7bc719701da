"""Edges and nodes over several ranks, whose targets are gathered: the values and gradients of one process."""

import itertools

import pytest
import torch

from graphkd import distributed
from graphkd.errors import DistributedError, GraphError
from graphkd.graphs.align import align, align_nodes
from graphkd.graphs.alignments import ALIGNMENTS
from graphkd.graphs.graph import Graph
from tests.distributed.ranks import SAMPLES, WORLDS, own_rows
from tests.kernels.inputs import randn

WIDTH, TEACHER = 16, 18  # wider than there are samples: Gram matrices are never fewer bytes
RELATIONS = ("gram", "cosine", "pearson", "euclidean", "squared_euclidean", "rbf")
RULES = ("center", "unit", "sum", "mean", "max")
EDGES = [
    *itertools.product(RELATIONS, (None,), ("huber",)),
    *itertools.product(("cosine", "euclidean"), RULES, ("huber", "kl")),
    *itertools.product(("euclidean",), (None, "unit"), ("frobenius", "pearson", "cross_entropy")),
    *itertools.product(("squared_euclidean",), ("max",), ("huber", "frobenius")),
    *itertools.product(("rbf",), ("sum",), ("huber", "frobenius")),
    *[("cosine", "unit", "frobenius"), ("euclidean", "mean", "frobenius"), ("rbf", None, "kl")],
]
NODES = list(
    itertools.product(
        ("identity", "teacher_gram", "centred_gram"), ("cosine", "euclidean"), ("frobenius", "huber", "kl")
    )
)


def compared(how, student, teacher):
    """Value and gradients of sample-sample edges, by relation, rule and alignment."""
    relation, rule, alignment = how
    sizes = distributed.sizes(len(student), student.device)
    graphs = [Graph().add("x", x).connect("x", relation, "x", normalise=rule).gather(sizes) for x in (student, teacher)]
    return outcome(
        align(*(each.edges("x", relation, "x") for each in graphs), ALIGNMENTS.get(alignment)), student, teacher
    )


def edges(case, chosen):
    student, teacher = randn(SAMPLES, WIDTH, seed=1) / 4, randn(SAMPLES, TEACHER, seed=2) / 4
    return compared(case, student[chosen].requires_grad_(), teacher[chosen].requires_grad_())


def nodes(case, chosen):
    """The same of a node term."""
    target, relation, alignment = case
    student, teacher = (randn(SAMPLES, WIDTH, seed=k)[chosen].requires_grad_() for k in (1, 2))
    sizes = tuple(distributed.sizes(len(student), student.device))
    return outcome(align_nodes(student, teacher, relation, target, ALIGNMENTS.get(alignment), sizes), student, teacher)


def outcome(value, student, teacher):
    value.backward()
    return {"value": value.detach(), "student": student.grad, "teacher": teacher.grad}


def outcomes(split):
    chosen = own_rows(split)
    return {("edges", *case): edges(case, chosen) for case in EDGES} | {
        ("nodes", *case): nodes(case, chosen) for case in NODES
    }


def others(split):
    """All samples on rank 0, and what is said against second derivatives and a gather beyond the limit."""
    x = randn(SAMPLES, WIDTH, seed=1)[own_rows(split)].requires_grad_()
    sizes = distributed.sizes(len(x), x.device)
    said = []
    try:
        torch.autograd.grad(distributed.gather(x, sizes).square().sum(), x, create_graph=True)
    except GraphError as error:
        said.append(str(error))
    with distributed.gather_limit(8 * SAMPLES * WIDTH - 1), distributed.traffic() as sent:
        try:
            distributed.gather(x, sizes)
        except DistributedError as error:
            said.append(str(error))
    with distributed.gather_limit(8 * SAMPLES * WIDTH):
        distributed.gather(x, sizes)
    chosen = slice(None) if distributed.rank() == 0 else slice(0, 0)
    return {"said": said, "calls": dict(sent.calls), "empty": {case: edges(case, chosen) for case in EDGES}}


@pytest.fixture(scope="module")
def four(on_ranks):
    return on_ranks(4, others, "uneven")


def check(found, expected, world, same):
    for each in found:
        same(each["value"], expected["value"], "the value")
    for name in ("student", "teacher"):
        same(torch.cat([each[name] for each in found]) / world, expected[name], f"the gradient of the {name}'s nodes")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("case", EDGES, ids=lambda case: " ".join(map(str, case)))
def test_edges_equal_those_of_one_process(once_on_ranks, same, case, split, world):
    check(
        [each["edges", *case] for each in once_on_ranks(world, outcomes, split)], edges(case, slice(None)), world, same
    )


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("case", NODES, ids=" ".join)
def test_node_terms_equal_those_of_one_process(once_on_ranks, same, case, split, world):
    check(
        [each["nodes", *case] for each in once_on_ranks(world, outcomes, split)], nodes(case, slice(None)), world, same
    )


@pytest.mark.parametrize("case", EDGES, ids=lambda case: " ".join(map(str, case)))
def test_ranks_without_samples(four, same, case):
    check([each["empty"][case] for each in four], edges(case, slice(None)), 4, same)


def test_second_derivatives_and_nodes_beyond_the_limit_are_refused(four):
    for each in four:
        second, limit = each["said"]
        assert "first derivatives only" in second
        assert "nodes (12, 16) of all ranks are 1,536 bytes on each, and the limit is 1,535" in limit
        assert "smaller global batch" in limit
        assert each["calls"] == {}  # nothing was exchanged
