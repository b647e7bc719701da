"""PRG: every option, terms and parameters by name, blended images, and its state."""

import re
from math import log

import pytest
import torch
from torch import tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.testing import assert_close

from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.features import Features, Mixture
from tests.distillers.prg_case import F64, B, C, make, student, teacher

OPTIONS = [
    {"preset": "stable"},
    {"preset": "literal"},
    {"preset": "ega"},
    *[{"labels": value} for value in ("hard", "soft", "label", PseudoLabels(C, "soft", temperature=2.0, balance=0.5))],
    *[{"node_target": value} for value in ("diagonal", "identity", "teacher_gram")],
    *[{"rho": value} for value in (0.0, 0.25, 1.0)],
    *[{"edges": value} for value in ("class", "sample")],
    {"kl_weight": 0.0},
]


@pytest.mark.parametrize("batch", [B, 1])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: re.sub(r" at 0x\w+", "", str(options)))
def test_every_option_gives_finite_values_and_gradients(options, batch):
    distiller, s = make(**options), student(batch=batch)
    losses = distiller(s, teacher(batch=batch), target=torch.arange(batch) % C)
    assert {"prg/ce"} < losses.keys()
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
    losses.total.backward()
    assert s.embedding.grad.isfinite().all()
    assert s.embedding.grad.abs().sum() > 0
    for name, parameter in distiller.named_parameters():
        assert parameter.grad is not None, name  # an unused parameter stalls DDP
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, {"ce", "node", "edge", "kl"}),
        ({"preset": "literal"}, {"ce", "node", "edge"}),
        ({"preset": "ega"}, {"ce", "node", "edge"}),
        ({"preset": "ega", "kl_weight": 1}, {"ce", "node", "edge", "kl"}),
        ({"ce_weight": 0}, {"node", "edge", "kl"}),
        ({"node_weight": 0}, {"ce", "edge", "kl"}),
        ({"edge_weight": 0}, {"ce", "node", "kl"}),
        ({"kl_weight": 0}, {"ce", "node", "edge"}),
    ],
)
def test_terms_by_name(options, terms):
    assert make(**options)(student(), teacher()).keys() == {f"prg/{name}" for name in terms}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"projector.weight", "projector.bias"}),
        ({"node_weight": 0}, set()),
        ({"rho": 0.0}, set()),
    ],
)
def test_no_parameter_without_a_term(options, names):
    assert {name for name, _ in make(**options).named_parameters()} == names


def test_blended_images_have_blended_labels_and_edges():
    s, t = student(), teacher()
    mixture = Mixture(tensor([1, 2, 3, 4, 5, 0]), torch.linspace(0.5, 1, B, dtype=F64))
    mixed = Features(t.embedding, t.logits, t.proxies, t.proxy_logits, mixture=mixture)
    losses = make(kl_weight=1.0)(s, mixed)
    hard = one_hot(t.logits.argmax(-1), C).double()
    assert_close(losses["prg/ce"], cross_entropy(s.logits, mixture.blend(hard)))
    blended = Features(mixture.blend(t.embedding), mixture.blend(t.logits), t.proxies, t.proxy_logits)
    for name in ("prg/node", "prg/edge", "prg/kl"):
        assert_close(losses[name], make(kl_weight=1.0)(s, blended)[name])


def test_share_one_is_unmixed():
    s, t = student(), teacher()
    mixture = Mixture(tensor([1, 2, 3, 4, 5, 0]), torch.ones(B, dtype=F64))
    mixed = Features(t.embedding, t.logits, t.proxies, t.proxy_logits, mixture=mixture)
    assert_close(make()(s, mixed), make()(s, t))


def test_labels_of_ones_own():
    s, t = student(), teacher()
    labels = PseudoLabels(C, threshold=0.9)
    sure = t.logits.softmax(-1).amax(-1) >= 0.9
    assert 0 < sure.sum() < B
    expected = cross_entropy(s.logits, t.logits.argmax(-1), reduction="none")[sure].sum() / B
    assert_close(make(labels=labels)(s, t)["prg/ce"], expected)


def test_ce_by_hand():
    logits = tensor([[0.0, log(3)]])
    f = Features(torch.randn(1, 3), logits, torch.randn(2, 3), torch.randn(2, 2))
    assert_close(PRGDistiller(3, 3, 2)(f, f)["prg/ce"], tensor(log(4 / 3)))
