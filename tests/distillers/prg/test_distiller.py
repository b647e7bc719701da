"""PRG: its equations, the invariants of its specification, options, degenerate inputs, messages."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn, tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, one_hot
from torch.testing import assert_close

from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.distillers.prg.losses import joined
from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.features import Features, Mixture
from graphkd.graphs.relations import pearson
from graphkd.ops import center_normalize

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "ega.json").read_text())
F64 = torch.float64
B, C, DS, DT = 6, 4, 5, 7
PARTS = ("embedding", "logits", "proxies", "proxy_logits")


def features(dim, seed, batch=B, scale=1.0, dtype=F64, grad=False):
    """A network whose head is linear: logits and proxy logits follow from embedding and proxies."""
    g = torch.Generator().manual_seed(seed)
    embedding, proxies, bias = (torch.randn(*shape, generator=g, dtype=F64) for shape in ((batch, dim), (C, dim), (C,)))
    embedding, proxies = embedding.to(dtype).requires_grad_(grad), proxies.to(dtype).requires_grad_(grad)
    bias = bias.to(dtype)
    return Features(embedding, scale * embedding @ proxies.T + bias, proxies, scale * proxies @ proxies.T + bias)


def student(**how):
    return features(DS, 0, **{"grad": True, **how})


def teacher(**how):
    return features(DT, 1, **{"scale": 3.0, **how})


def make(**options):
    torch.manual_seed(2)
    return PRGDistiller(DS, DT, C, **options).double()


def edges(f, z, p, g, rho=0.5):
    return rho * pearson(f, p) + (1 - rho) * pearson(z, g)


def forms(s, t, projector, rho=0.5):
    """N, E^T and E^S as prg.md writes them."""
    n = rho * pearson(t.embedding, projector(s.embedding)) + (1 - rho) * pearson(t.logits, s.logits)
    e_t, e_s = (edges(f.embedding, f.logits, f.proxies, f.proxy_logits, rho) for f in (t, s))
    return n, e_t, e_s


def identical(distiller):
    """The projector that changes nothing."""
    distiller.projector = nn.Identity()
    return distiller


# the equations


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 1.0])
def test_stable_preset_is_the_equation(rho):
    distiller, s, t = make(rho=rho, kl_weight=0.5, kl_temperature=2.0), student(), teacher()
    project = distiller.projector if rho else lambda x: t.embedding  # read by no block
    n, e_t, e_s = forms(s, t, project, rho)
    losses = distiller(s, t)
    assert_close(losses["prg/ce"], cross_entropy(s.logits, t.logits.argmax(-1)))
    assert_close(losses["prg/node"], (1 - n.diagonal()).mean())
    assert_close(losses["prg/edge"], (e_t - e_s).norm() / (B * C) ** 0.5)
    divergence = nn.functional.kl_div((s.logits / 2).log_softmax(-1), (t.logits / 2).softmax(-1), reduction="batchmean")
    assert_close(losses["prg/kl"], 0.5 * 4 * divergence)


def test_literal_preset_is_the_stable_one_without_kl():
    s, t = student(), teacher()
    literal, stable = make(preset="literal")(s, t), make()(s, t)
    assert stable.keys() - literal.keys() == {"prg/kl"}
    assert all(value == stable[name] for name, value in literal.items())


def test_ega_preset_is_the_equation():
    distiller, s, t = make(preset="ega"), student(), teacher()
    n, e_t, e_s = forms(s, t, distiller.projector)
    losses = distiller(s, t)
    assert_close(losses["prg/node"], 0.8 * (n - torch.eye(B, dtype=F64)).norm())
    assert_close(losses["prg/edge"], 0.24 * (e_t - e_s).norm())


def test_soft_labels_and_weights():
    s, t = student(), teacher()
    loss = make(ce_weight=2.0, labels="soft")(s, t)["prg/ce"]
    assert_close(loss, 2 * cross_entropy(s.logits, t.logits.softmax(-1)))


def test_edges_among_samples_are_the_equation():
    s, t = student(), teacher()
    e_s, e_t = (edges(f.embedding, f.logits, f.embedding, f.logits) for f in (s, t))
    assert_close(make(edges="sample")(s, t)["prg/edge"], (e_s - e_t).norm() / B)


def test_gradcheck():
    distiller, t, s = make(preset="ega"), teacher(), student()

    def loss(*parts):
        return distiller(Features(**dict(zip(PARTS, parts, strict=True))), t).total

    inputs = [getattr(s, part).detach().requires_grad_() for part in PARTS]
    assert torch.autograd.gradcheck(loss, inputs)


# invariants of methods/prg.md, section 10 (1 and 2 are the teacher's, 3 is below)


@pytest.mark.parametrize("preset", ["literal", "ega"])
def test_4_blocks_ignore_positive_scale_and_shift(preset):
    distiller = make(preset=preset, ce_weight=0)
    s, t = student(grad=False), teacher()
    before = distiller(s, t)
    moved = [f.map_tensors(lambda x: 3 * x + 0.5) for f in (s, t)]
    assert_close(distiller(s, moved[1]), before)
    assert_close(distiller(moved[0], t)["prg/edge"], before["prg/edge"])  # P moves its input's shift


def test_3_a_gram_of_joined_nodes_is_the_mean_of_both_correlations():
    s, t = student(), teacher()
    for rho in (0.0, 0.3, 1.0):
        nodes = [joined(f.logits, f.proxies[:1].expand(B, -1) + f.embedding, rho) for f in (s, t)]
        blocks = [(f.logits, f.proxies[:1].expand(B, -1) + f.embedding) for f in (s, t)]
        for node, (first, second) in zip(nodes, blocks, strict=True):
            assert_close(node @ node.T, rho * pearson(first, first) + (1 - rho) * pearson(second, second))


def copy_of_the_teacher():
    t = teacher()
    return t.map_tensors(lambda x: x.detach().clone().requires_grad_()), t


@pytest.mark.parametrize(("target", "zero"), [("teacher_gram", True), ("identity", False)])
def test_6_matrix_targets_of_a_perfect_copy(target, zero):
    s, t = copy_of_the_teacher()
    distiller = identical(PRGDistiller(DT, DT, C, preset="ega", node_weight=1.0, node_target=target).double())
    loss = distiller(s, t)["prg/node"]
    gram = (pearson(t.embedding, t.embedding) + pearson(t.logits, t.logits)) / 2
    expected = tensor(0.0, dtype=F64) if zero else (gram - torch.eye(B, dtype=F64)).norm()
    assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    loss.backward()
    assert s.embedding.grad.isfinite().all()


def test_relations_of_each_sample_to_the_teachers_samples_by_hand():
    s, t = student(), teacher()
    distiller = make(preset="relation")
    x, f = (center_normalize(each) for each in (distiller.projector(s.embedding), t.embedding))
    mean = f.mean(0)
    ours, theirs = (cosine_similarity(each[:, None] - mean, f - mean, -1) / 0.1 for each in (x, f))
    expected = kl_div(ours.log_softmax(1), theirs.log_softmax(1), reduction="batchmean", log_target=True)
    assert_close(distiller(s, t)["prg/node"], 2 * expected)
    assert (distiller.rho, distiller.kl_temperature) == (1.0, 1.0)
    assert make(preset="relation", rho=0.5).rho == 0.5


def test_relations_of_a_perfect_copy_are_those_of_the_teacher():
    s, t = copy_of_the_teacher()
    loss = identical(PRGDistiller(DT, DT, C, preset="relation").double())(s, t)["prg/node"]
    assert_close(loss, tensor(0.0, dtype=F64), rtol=0, atol=1e-12)


def test_7_rho_1_is_features_only():
    s = student(grad=False).map_tensors(lambda x: x.clone().requires_grad_())
    make(rho=1.0, ce_weight=0, kl_weight=0)(s, teacher()).total.backward()
    assert s.logits.grad is None
    assert s.proxy_logits.grad is None
    assert s.embedding.grad.abs().sum() > 0


def test_7_rho_0_is_logits_only():
    s = student(grad=False).map_tensors(lambda x: x.clone().requires_grad_())
    distiller = make(rho=0.0, ce_weight=0)
    assert distiller.projector is None
    assert not list(distiller.parameters())
    distiller(s, teacher()).total.backward()
    assert s.embedding.grad is None
    assert s.logits.grad.abs().sum() > 0


def golden_inputs(case):
    g = torch.Generator().manual_seed(case["seed"])
    f_t, f_s = (torch.randn(case["N"], case["D"], generator=g, dtype=F64) for _ in range(2))
    if case["correlated"]:
        f_s = 0.5 * f_t + 0.5 * f_s
    assert_close(f_t.flatten()[:4], tensor(case["ft_first4"], dtype=F64))
    assert_close(f_s.flatten()[:4], tensor(case["fs_first4"], dtype=F64))
    return f_s.requires_grad_(), f_t


CASES = [case for case in GOLDEN["cases"] if case["dtype"] == "float64" and case["name"][:4] in ("rand", "corr")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("name", ["class_default", "script_default", "rn101_script", "node_only", "edge_only"])
def test_9_samples_only_is_ega(case, name):
    golden = case["configs"][name]
    weights = {key: golden[key] for key in ("node_weight", "edge_weight")}
    f_s, f_t = golden_inputs(case)
    logits = torch.zeros(case["N"], C, dtype=F64)
    distiller = PRGDistiller(
        case["D"], case["D"], C, preset="ega", edges="sample", rho=1.0, ce_weight=0, **weights
    ).double()
    if weights["node_weight"]:
        identical(distiller)
    losses = distiller(Features(f_s, logits), Features(f_t, logits))
    losses.total.backward()
    close = {"rtol": 1e-9, "atol": 1e-12}
    assert_close(losses.total, tensor(golden["total"], dtype=F64), **close)
    if weights["node_weight"]:
        assert_close(losses["prg/node"] / weights["node_weight"], tensor(case["loss_node"], dtype=F64), **close)
    assert_close(f_s.grad.norm(), tensor(golden["grad_fs"]["norm"], dtype=F64), **close)
    assert_close(f_s.grad.flatten()[:4], tensor(golden["grad_fs"]["first4"], dtype=F64), **close)


def test_9_the_presets_weights_are_those_of_the_script():
    golden = CASES[0]["configs"]["script_default"]
    f_s, f_t = golden_inputs(CASES[0])
    logits = torch.zeros(len(f_s), C, dtype=F64)
    distiller = PRGDistiller(16, 16, C, preset="ega", edges="sample", rho=1.0, ce_weight=0).double()
    losses = identical(distiller)(Features(f_s, logits), Features(f_t, logits))
    assert_close(losses.total, tensor(golden["total"], dtype=F64), rtol=1e-9, atol=0)


@pytest.mark.parametrize("edge_set", ["class", "sample"])
@pytest.mark.parametrize("preset", ["stable", "ega"])
def test_10_order_of_samples_and_of_classes_does_not_matter(preset, edge_set):
    distiller, s, t = make(preset=preset, edges=edge_set, kl_weight=1.0), student(), teacher()
    samples, classes = tensor([3, 1, 0, 5, 4, 2]), tensor([2, 0, 3, 1])
    before = distiller(s, t)
    turned = [
        Features(
            f.embedding[samples], f.logits[samples][:, classes], f.proxies[classes], f.proxy_logits[classes][:, classes]
        )
        for f in (s, t)
    ]
    assert_close(distiller(*turned), before)


OPTIONS = [
    {"preset": "stable"},
    {"preset": "literal"},
    {"preset": "ega"},
    {"preset": "relation"},
    *[{"labels": value} for value in ("hard", "soft", "label", PseudoLabels("soft", temperature=2.0, threshold=0.5))],
    *[{"node_target": value} for value in ("diagonal", "identity", "teacher_gram", "centred_gram")],
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
        ({"preset": "relation"}, {"ce", "node", "kl"}),
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


@pytest.mark.parametrize("preset", ["stable", "ega"])
@pytest.mark.parametrize("edge_set", ["class", "sample"])
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
    reached = PARTS if edge_set == "class" else ("embedding", "logits")
    assert all(getattr(s, part).grad.isfinite().all() for part in reached)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "stabel"}, "unknown preset 'stabel'; did you mean 'stable'. Known: ega, literal, relation, stable"),
        ({"labels": "sof"}, "unknown pseudo-label target 'sof'; did you mean 'soft'"),
        ({"node_target": "identiy"}, "unknown node target 'identiy'; did you mean 'identity'"),
        ({"edges": "clas"}, "unknown edge set 'clas'; did you mean 'class'. Known: class, sample"),
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
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("without", "message"),
    [("proxies", r"PRG \(teacher\) needs features.proxies, which is absent: .*a teacher without text tower"),
     ("proxy_logits", r"PRG \(teacher\) needs features.proxy_logits"),
     ("logits", "needs features.logits"),
     ("embedding", "PRG needs features.embedding")],
)  # fmt: skip
def test_what_is_missing_is_named(without, message):
    t = teacher()
    parts = {part: getattr(t, part) for part in PARTS if part != without}
    with pytest.raises(MissingFeatureError, match=message):
        make()(student(), Features(**parts))


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
