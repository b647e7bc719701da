"""PRG: every option, terms and parameters by name, blended images, and its state."""

import re
from math import log

import pytest
import torch
from torch import tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.testing import assert_close

import graphkd.graphs.alignments
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.features import Features, Mixture
from graphkd.graphs.relations import pearson
from tests.distillers.prg_case import DT, F64, B, C, edges, forms, make, student, teacher

OPTIONS = [
    {"preset": "stable"},
    {"preset": "literal"},
    {"preset": "ega"},
    *[{"labels": value} for value in ("hard", "soft", "label", PseudoLabels(C, "soft", temperature=2.0, balance=0.5))],
    *[{"node_target": value} for value in ("diagonal", "identity", "teacher_gram")],
    *[{"node_target": "identity", "node_alignment": value} for value in graphkd.graphs.alignments.ALIGNMENTS],
    *[{"edge_alignment": value} for value in graphkd.graphs.alignments.ALIGNMENTS],
    {"edge_alignment": graphkd.graphs.alignments.kl(0.5)},
    *[{"nodes": value} for value in ("blocks", "features", "logits", "separate", "raw", "fused")],
    *[{"nodes": value, "edges": "sample"} for value in ("separate", "raw", "fused")],
    *[{"rho": value} for value in (0.0, 0.25, 1.0)],
    *[{"relation": value} for value in ("pearson", "cosine", "gram", torch.tanh)],
    {"logit_temperature": 2.0},
    *[{"teacher_proxy": value} for value in ("own", "class_mean", "class_mean_ema")],
    *[{"student_proxy": value} for value in ("own", "detached", "learnable", "class_mean", "class_mean_ema", "text")],
    {"student_proxy": "text", "projector": "shared"},
    *[{"proxy_logits": value} for value in ("own", "one_hot", "none")],
    *[{"projector": value} for value in ("linear", "mlp", "shared", "none")],
    *[{"edges": value} for value in ("class", "sample", "both", "full")],
    {"center_edges": True},
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
        ({"edges": "both"}, {"ce", "node", "edge_class", "edge_sample", "kl"}),
        ({"nodes": "separate"}, {"ce", "node:features", "node:logits", "edge:features", "edge:logits", "kl"}),
        ({"projector": "shared"}, {"ce", "node", "edge", "teacher_head", "kl"}),
        ({"projector": "shared", "node_weight": 0}, {"ce", "edge", "kl"}),
    ],
)
def test_terms_by_name(options, terms):
    assert make(**options)(student(), teacher()).keys() == {f"prg/{name}" for name in terms}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"graph.projector.student.weight", "graph.projector.student.bias"}),
        ({"node_weight": 0}, set()),
        ({"nodes": "logits"}, set()),
        ({"projector": "none"}, set()),
        ({"node_weight": 0, "projector": "shared"}, set()),
        ({"node_weight": 0, "student_proxy": "learnable"}, {"graph.proxies.student.vectors"}),
        ({"node_weight": 0, "student_proxy": "learnable", "edge_weight": 0}, set()),
        ({"node_weight": 0, "student_proxy": "learnable", "edges": "sample"}, set()),
        ({"node_weight": 0, "student_proxy": "text", "edge_weight": 0}, set()),
    ],
)
def test_no_parameter_without_a_term(options, names):
    assert {name for name, _ in make(**options).named_parameters()} == names


def test_text_proxies_bring_a_projector_for_the_edges():
    s, t = student(), teacher()
    distiller = make(student_proxy="text", node_weight=0, ce_weight=0, rho=1.0)
    e_s = pearson(distiller.graph.projector.student(s.embedding), t.proxies)
    expected = (pearson(t.embedding, t.proxies) - e_s).norm() / (B * C) ** 0.5
    assert_close(distiller(s, t)["prg/edge"], expected)


def test_a_shared_projector_trains_the_teachers_side_by_its_own_loss_only():
    distiller = make(projector="shared", student_proxy="text")
    losses = distiller(student(), teacher())
    head = distiller.graph.projector.teacher
    (losses["prg/node"] + losses["prg/edge"]).backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in head.parameters())
    losses["prg/teacher_head"].backward()
    t = teacher()
    assert_close(losses["prg/teacher_head"], cross_entropy(head.classify(head(t.embedding)), t.logits.argmax(-1)))
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


def test_class_means_need_no_text():
    t = Features(teacher().embedding, teacher().logits)
    losses = make(teacher_proxy="class_mean", student_proxy="class_mean")(student(), t)
    assert losses["prg/edge"].isfinite()


def test_one_hot_proxy_logits_need_no_own_ones():
    s, t = (Features(f.embedding, f.logits, f.proxies) for f in (student(), teacher()))
    eye = torch.eye(C, dtype=F64)
    e_s, e_t = (edges(f.embedding, f.logits, f.proxies, eye) for f in (s, t))
    assert_close(make(proxy_logits="one_hot")(s, t)["prg/edge"], (e_t - e_s).norm() / (B * C) ** 0.5)


def test_center_edges_subtracts_the_rows_mean():
    s, t = student(), teacher()
    _, e_t, e_s = forms(s, t, lambda x: torch.zeros(B, DT, dtype=F64))
    difference = e_t - e_s
    expected = (difference - difference.mean(-1, keepdim=True)).norm() / (B * C) ** 0.5
    assert_close(make(center_edges=True)(s, t)["prg/edge"], expected)


def test_logit_temperature_is_inside_the_softmax():
    s, t = student(), teacher()
    soft = [
        Features(f.embedding, (f.logits / 2).softmax(-1), f.proxies, (f.proxy_logits / 2).softmax(-1)) for f in (s, t)
    ]
    n, e_t, e_s = forms(*soft, make().graph.projector.student)
    losses = make(logit_temperature=2.0)(s, t)
    assert_close(losses["prg/edge"], (e_s - e_t).norm() / (B * C) ** 0.5)
    assert_close(losses["prg/node"], (1 - n.diagonal()).mean())
    assert_close(losses["prg/ce"], make()(s, t)["prg/ce"])


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


def test_state_goes_round():
    one, two = make(edges="full", student_proxy="class_mean_ema"), make(edges="full", student_proxy="class_mean_ema")
    one(student(), teacher())
    two.load_state_dict(one.state_dict())
    assert_close(two.eval()(student(), teacher()), one.eval()(student(), teacher()))


def test_ce_by_hand():
    logits = tensor([[0.0, log(3)]])
    f = Features(torch.randn(1, 3), logits, torch.randn(2, 3), torch.randn(2, 2))
    assert_close(PRGDistiller(3, 3, 2)(f, f)["prg/ce"], tensor(log(4 / 3)))
