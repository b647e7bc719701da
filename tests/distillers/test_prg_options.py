"""PRG: every option, degenerate and half-precision inputs, blends, compilation, messages."""

import re
from math import log

import pytest
import torch
from torch import tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.testing import assert_close

import graphkd.alignments
from graphkd.distillers.prg import PRGDistiller
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, TeacherError, UnknownNameError
from graphkd.features import Features, Mixture
from graphkd.pseudo_labels import PseudoLabels
from graphkd.relations import pearson
from tests.distillers.prg_case import DS, DT, F64, PARTS, B, C, edges, features, forms, make, student, teacher

LABEL = (
    "PRG-style: reconstructed from the abstract and third-party summaries, with EGA-type node and edge losses; "
    "not PRG as published."
)


# options

OPTIONS = [
    {"preset": "stable"},
    {"preset": "ega"},
    *[{"labels": value} for value in ("hard", "soft", "label", PseudoLabels(C, "soft", temperature=2.0, balance=0.5))],
    *[{"node_target": value} for value in ("diagonal", "identity", "teacher_gram")],
    *[{"node_target": "identity", "node_alignment": value} for value in graphkd.alignments.ALIGNMENTS],
    *[{"edge_alignment": value} for value in graphkd.alignments.ALIGNMENTS],
    {"edge_alignment": graphkd.alignments.kl(0.5)},
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
    {"kl_weight": 1.0},
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


@pytest.mark.parametrize("preset", ["stable", "ega"])
@pytest.mark.parametrize("edge_set", ["class", "full"])
@pytest.mark.parametrize(
    "broken",
    [
        lambda x: torch.zeros_like(x),
        lambda x: torch.full_like(x, 0.3),
        lambda x: x[:1].expand_as(x),
        lambda x: torch.cat([x[:1], x[:1], x[2:]]),
    ],
    ids=["zero", "constant", "collapsed", "duplicates"],
)
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_degenerate_students_stay_finite(preset, edge_set, broken, dtype):
    s = student(grad=False, dtype=dtype).map_tensors(lambda x: broken(x).clone().requires_grad_())
    losses = make(preset=preset, edges=edge_set).to(dtype)(s, teacher(dtype=dtype))
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(getattr(s, part).grad.isfinite().all() for part in PARTS)


@pytest.mark.parametrize("who", [0, 1])
def test_a_nan_is_never_hidden(who):
    pair = [student(grad=False), teacher()]
    pair[who].embedding[2, 1] = torch.nan
    assert make()(*pair).total.isnan()


def test_a_nan_in_the_teachers_logits_is_not_hidden():
    t = teacher()
    t.logits[1, 1] = torch.nan
    assert make(node_weight=0, edge_weight=0)(student(), t).total.isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("preset", ["stable", "ega"])
def test_half_precision_is_computed_in_single(preset, autocast, dtype):
    s, t = student(grad=False, dtype=dtype).map_tensors(lambda x: x.requires_grad_()), teacher(dtype=dtype)
    distiller = make(preset=preset).float()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = distiller(s, t)
    exact = make(preset=preset)(*(f.map_tensors(lambda x: x.detach().double()) for f in (s, t)))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert_close(losses.total.double(), exact.total, rtol=1e-3, atol=0)
    losses.total.backward()
    assert s.embedding.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, {"ce", "node", "edge"}),
        ({"ce_weight": 0}, {"node", "edge"}),
        ({"node_weight": 0}, {"ce", "edge"}),
        ({"edge_weight": 0}, {"ce", "node"}),
        ({"kl_weight": 1}, {"ce", "node", "edge", "kl"}),
        ({"edges": "both"}, {"ce", "node", "edge_class", "edge_sample"}),
        ({"nodes": "separate"}, {"ce", "node:features", "node:logits", "edge:features", "edge:logits"}),
        ({"projector": "shared"}, {"ce", "node", "edge", "teacher_head"}),
        ({"projector": "shared", "node_weight": 0}, {"ce", "edge"}),
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


# mixup


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


# compiled


@pytest.mark.parametrize(
    "options",
    [{}, {"preset": "ega", "edges": "full"}, {"edges": "both", "nodes": "separate", "student_proxy": "class_mean_ema"}],
    ids=str,
)
def test_compiled_whole_is_eager(options):
    results = []
    for compile_it in (False, True):
        distiller, s = make(**options), student()
        call = torch.compile(distiller, fullgraph=True, backend="aot_eager") if compile_it else distiller
        losses = call(s, teacher())
        losses.total.backward()
        results.append((dict(losses), s.embedding.grad, s.proxies.grad, dict(distiller.named_buffers())))
    assert_close(*results)


def test_state_goes_round():
    one, two = make(edges="full", student_proxy="class_mean_ema"), make(edges="full", student_proxy="class_mean_ema")
    one(student(), teacher())
    two.load_state_dict(one.state_dict())
    assert_close(two.eval()(student(), teacher()), one.eval()(student(), teacher()))


# messages


def test_the_label_stands_in_the_docstring():
    assert LABEL in " ".join(PRGDistiller.__doc__.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "stabel"}, "unknown preset 'stabel'; did you mean 'stable'. Known: ega, stable"),
        ({"labels": "sof"}, "unknown pseudo-label target 'sof'; did you mean 'soft'"),
        ({"node_target": "identiy"}, "unknown node target 'identiy'; did you mean 'identity'"),
        ({"node_alignment": "frobenious"}, "unknown alignment 'frobenious'; did you mean 'frobenius'"),
        ({"edge_alignment": "rsm"}, "unknown alignment 'rsm'; did you mean 'rms'"),
        ({"nodes": "block"}, "unknown node composition 'block'; did you mean 'blocks'"),
        ({"nodes": "block", "projector": "none", "proxy_logits": "none"}, "unknown node composition 'block'"),
        ({"relation": "pearsn"}, "unknown relation.* 'pearsn'; did you mean 'pearson'"),
        ({"teacher_proxy": "class_means"}, "unknown teacher proxy 'class_means'; did you mean 'class_mean'"),
        ({"teacher_proxy": "learnable"}, "unknown teacher proxy 'learnable'.* Known: own, class_mean, class_mean_ema"),
        ({"student_proxy": "learned"}, "unknown proxy source 'learned'; did you mean 'learnable'"),
        ({"proxy_logits": "nono"}, "unknown proxy logit block 'nono'; did you mean 'none'. Known: none, one_hot, own"),
        ({"projector": "liner"}, "unknown projector 'liner'; did you mean 'linear'"),
        ({"projector": "liner", "node_weight": 0}, "unknown projector 'liner'; did you mean 'linear'"),
        ({"edges": "clas"}, "unknown edge set 'clas'; did you mean 'class'. Known: both, class, full, sample"),
    ],
)
def test_unknown_names_are_suggested(options, message):
    with pytest.raises(UnknownNameError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 1.5}, r"rho is the share of the feature block, a number in \[0, 1\], found 1.5"),
        ({"kl_temperature": 0}, "kl_temperature is a softmax temperature > 0, found 0"),
        ({"logit_temperature": -1}, "logit_temperature is a softmax temperature > 0 or None, found -1"),
        ({"logit_temperature": 2, "nodes": "fused"}, "nodes='fused' has no logit block.*leave logit_temperature out"),
        ({"student_proxy": "text", "projector": "none"}, "meets the teacher's text by a projector: projector='none'"),
        *[
            ({f"{term}_weight": value}, f"weight of the {term} term is a finite number >= 0, found {value}")
            for term in ("ce", "node", "edge", "kl")
            for value in (-1.0, float("nan"), float("inf"))
        ],
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


def test_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match="rhoo"):
        make(rhoo=1)


@pytest.mark.parametrize(
    ("without", "message"),
    [("proxies", r"PRG \(teacher\) needs features.proxies, which is absent: .*a teacher without text tower"),
     ("proxy_logits", r"PRG \(teacher\) needs features.proxy_logits"),
     ("logits", "PRG needs features.logits"),
     ("embedding", "PRG needs features.embedding")],
)  # fmt: skip
def test_a_teacher_that_lacks_a_part(without, message):
    t = teacher()
    parts = {part: getattr(t, part) for part in PARTS if part != without}
    with pytest.raises(MissingFeatureError, match=message):
        make()(student(), Features(**parts))


def test_a_student_that_lacks_its_classifier():
    s = student()
    with pytest.raises(MissingFeatureError, match=r"PRG \(student\) needs features.proxies"):
        make()(Features(s.embedding, s.logits), teacher())


def test_fused_nodes_without_proxies_say_so():
    s, t = (Features(f.embedding, f.logits) for f in (student(), teacher()))
    with pytest.raises(MissingFeatureError, match=r"needs features.proxies"):
        make(nodes="fused", edges="sample")(s, t)


@pytest.mark.parametrize(
    ("who", "message"),
    [(0, "student: found an embedding of width 8 and 4 logits, this distiller was built for 5 and 4"),
     (1, "teacher: found an embedding of width 8 and 4 logits, this distiller was built for 7 and 4")],
)  # fmt: skip
def test_widths_that_do_not_fit(who, message):
    pair = [student(), teacher()]
    pair[who] = features(8, 3)
    with pytest.raises(ShapeError, match=message):
        make()(*pair)


def test_batches_that_differ():
    with pytest.raises(ShapeError, match="student features of 6 samples and teacher features of 5"):
        make()(student(), teacher(batch=5))


def test_true_labels_must_be_given():
    with pytest.raises(MissingFeatureError, match="labels='label' trains on true labels and needs target"):
        make(labels="label")(student(), teacher())


class Model:
    def __init__(self, embedding_dim, num_classes):
        self.embedding_dim, self.num_classes = embedding_dim, num_classes


def test_between_sizes_itself():
    distiller = PRGDistiller.between(Model(DS, C), Model(DT, C), edges="both", rho=0.25).double()
    assert {"prg/edge_class", "prg/edge_sample"} < distiller(student(), teacher()).keys()
    assert distiller.graph.projector.student.weight.shape == (DT, DS)


def test_between_needs_a_teacher_with_classes():
    with pytest.raises(TeacherError, match="PRG needs classes, and this teacher has neither text tower nor classifier"):
        PRGDistiller.between(Model(DS, C), Model(DT, None))


def test_ce_by_hand():
    logits = tensor([[0.0, log(3)]])
    f = Features(torch.randn(1, 3), logits, torch.randn(2, 3), torch.randn(2, 2))
    assert_close(PRGDistiller(3, 3, 2)(f, f)["prg/ce"], tensor(log(4 / 3)))
