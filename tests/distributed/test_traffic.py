"""Gram matrices in place of gathered nodes: one process's values and gradients, and as many bytes as the formula says."""

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd import distributed
from graphkd.distillers.cc import CCDistiller
from graphkd.distillers.dist import DISTDistiller
from graphkd.distillers.ega import EGADistiller
from graphkd.distillers.sp import SPDistiller
from graphkd.features import Features
from tests.distributed.ranks import SAMPLES, WORLDS, own_rows
from tests.distributed.test_gathered import compared
from tests.kernels.inputs import randn

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
WIDTHS = (4, 5, None)  # of the teacher; None: the student's own nodes, whose edges are at distance 0
EDGES = list(itertools.product(("gram", "cosine", "pearson"), (None, "center", "unit"), ("frobenius", "mse"), WIDTHS))
DISTILLERS = {
    "ega": lambda: EGADistiller(4, 6, 3, embed_dim=4),
    "ega mse": lambda: EGADistiller(4, 6, 3, embed_dim=4, norm="mse"),
    "ega joint": lambda: EGADistiller(4, 6, 3, embed_dim=4, teacher_head="joint"),
    "ega wide": lambda: EGADistiller(4, 6, 3, embed_dim=30, classifier_on="feature"),  # gathered
    "ega nodes": lambda: EGADistiller(4, 6, 3, embed_dim=4, edge_weight=0.0),
    "ega spectral": lambda: EGADistiller(4, 6, 3, embed_dim=4, norm="spectral"),
    "sp": lambda: SPDistiller(on="embedding"),
    "dist": lambda: DISTDistiller(temperature=2.0),
    "cc": lambda: CCDistiller(4, 6, embed_dim=3),  # a teacher's layer that learns
}


def edges(case, chosen):
    *how, width = case
    student, teacher = randn(SAMPLES, 4, seed=1), randn(SAMPLES, width or 4, seed=2 if width else 1)
    return compared(how, student[chosen].requires_grad_(), teacher[chosen].requires_grad_())


def method(name, chosen):
    """Terms, gradients of the student's rows and of what the distiller owns."""
    torch.manual_seed(0)
    distiller = DISTILLERS[name]().double()
    student = randn(SAMPLES, 4, seed=1)[chosen].requires_grad_()
    seen = randn(SAMPLES, 6, seed=2)[chosen]
    given = {"target": (torch.arange(SAMPLES) % 3)[chosen]}
    dead = torch.cat([student[:, :3], student[:, :1] * 0 + 1], 1)  # a class that is never moved
    losses = distiller(Features(student, dead), Features(seen, seen[:, :4]), **given)
    losses.total.backward()
    owned = {name: each.grad for name, each in distiller.named_parameters()}
    return {"value": {k: v.detach() for k, v in losses.items()}, "student": student.grad, "owned": owned}


def bytes_of_ega(rows, width):
    """What a rank hands over for EGA's edges and nodes, forward and backward, its teacher's head left out."""
    distiller = EGADistiller(width, width, 3, embed_dim=width, teacher_head="frozen")
    student = randn(rows, width, seed=1, dtype=torch.float32).requires_grad_()
    with distributed.traffic() as found:
        distiller(Features(student), Features(randn(rows, width, seed=2, dtype=torch.float32))).total.backward()
    return dict(found.handed), dict(found.calls), found.total


def outcomes():
    """All cases on one rank."""
    found = {("bytes", rows, width): bytes_of_ega(rows, width) for rows in (64, 256) for width in (16, 1024)}
    for split in ("even", "uneven"):
        found |= {(split, *case): edges(case, own_rows(split)) for case in EDGES}
        found |= {(split, name): method(name, own_rows(split)) for name in DISTILLERS}
    return found


@pytest.fixture(scope="module", params=WORLDS, ids="{} ranks".format)
def ranks(request, on_ranks):
    return on_ranks(request.param, outcomes)


@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("case", EDGES, ids=lambda case: " ".join(map(str, case)))
def test_edges_equal_those_of_one_process(ranks, split, case):
    expected, found = edges(case, slice(None)), [each[split, *case] for each in ranks]
    for each in found:
        assert_close(each["value"], expected["value"], **CLOSE)
    for name in ("student", "teacher"):
        assert_close(torch.cat([each[name] for each in found]) / len(ranks), expected[name], **CLOSE)


@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("name", DISTILLERS)
def test_methods_equal_one_process(ranks, split, name):
    expected, found = method(name, slice(None)), [each[split, name] for each in ranks]
    for each in found:
        assert_close(each["value"], expected["value"], **CLOSE)
    assert_close(torch.cat([each["student"] for each in found]) / len(ranks), expected["student"], **CLOSE)
    for parameter, whole in expected["owned"].items():
        parts = [each["owned"][parameter] for each in found]
        assert_close(None if whole is None else sum(parts) / len(ranks), whole, **CLOSE)


@pytest.mark.parametrize("rows", [64, 256])
def test_ega_sends_its_gram_matrices_whatever_the_batch(ranks, rows):
    width, w = 16, len(ranks)
    matrix = 4 * width * (2 * width + 1)  # the upper triangle of (2 D) x (2 D) numbers of float32
    for each in ranks:
        handed, calls, sent = each["bytes", rows, width]
        assert handed == {"all_reduce": matrix, "all_gather": 8}  # how many rows each rank has
        assert calls == {"all_reduce": 1, "all_gather": 1}
        assert sent == 2 * (w - 1) / w * matrix + 8 * (w - 1)


@pytest.mark.parametrize("rows", [64, 256])
def test_where_nodes_are_fewer_bytes_they_are_gathered_once_for_both_terms(ranks, rows):
    width, w = 1024, len(ranks)
    nodes = 4 * rows * width
    for each in ranks:
        handed, _, _ = each["bytes", rows, width]
        reduced = {"forward": 2 * 2 * 4, "backward": 2 * 2 * 4 + w * nodes}  # two sums and counts; student's gradients
        expected = {"all_gather": 2 * nodes + 8, "all_reduce": sum(reduced.values())}
        assert handed == (
            expected if rows * w <= width else {"all_gather": 8, "all_reduce": 4 * width * (2 * width + 1)}
        )


def test_nothing_is_counted_without_ranks():
    x = nn.Parameter(torch.ones(3))
    with distributed.traffic() as found:
        distributed.total(x).sum().backward()
    assert (found.ranks, dict(found.handed), found.total) == (1, {}, 0)
