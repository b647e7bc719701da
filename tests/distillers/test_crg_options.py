"""CRG: every option, wiring, messages."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd.distillers.base import same_update
from graphkd.distillers.combined import CombinedDistiller
from graphkd.distillers.crg.distiller import CRGDistiller
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.features import Features
from graphkd.functional import crg_edge, crg_spectral
from graphkd.graphs.channels import AFFINITIES, VERTEX_LOSSES
from graphkd.graphs.spectral import SpectralGraph
from graphkd.graphs.spectral_losses import SPECTRAL_FORMS
from graphkd.models.tap import Tap
from graphkd.step import Step
from tests.distillers.crg_case import F64, crg, features, maps, of_maps

OPTIONS = [
    *({"edge_affinity": name} for name in sorted(AFFINITIES)),
    *({"spectral_affinity": name} for name in ("cosine", "rbf")),
    *({"vertex_loss": name} for name in sorted(VERTEX_LOSSES)),
    *({"adapter": name} for name in ("always", "conv", lambda student, teacher: nn.Conv2d(student, teacher, 1))),
    {"vertex_attention": "mean", "edge_attention": "mean"},
    {"vertex_attention": "mean", "edge_attention": "off", "tau": 0.3},
    {"edge_alignment": "huber"},
    {"edge_alignment": "graph_squares"},
    {"edge_alignment": "kl", "edge_attention": "off"},
    {"spectral_form": partial(SPECTRAL_FORMS.get("heat"), time=4.0)},
    {"spectral_form": "projector", "scaling": "diffusion"},
    {"spectral_form": "procrustes", "scaling": "commute"},
    *({"spectral_graph": SpectralGraph(nonnegative=name)} for name in ("abs", "shift", "exp")),
    *({"spectral_graph": SpectralGraph(laplacian=name)} for name in ("unnormalised", "random_walk")),
    {"spectral_graph": SpectralGraph(neighbours=3, self_loops=True, drop_trivial=False, dtype=F64)},
    {"attention_weight": 1.0, "kd_weight": 1.0, "warmup_steps": 5},
]


@pytest.mark.parametrize(
    "options",
    OPTIONS,
    ids=lambda o: ",".join(
        f"{k}={getattr(v, '__name__', type(v).__name__ if callable(v) else v)}" for k, v in o.items()
    ),
)
def test_every_option_trains_the_student(options):
    s = [maps(6, 8).requires_grad_(), maps(12, 4).requires_grad_()]
    student, teacher = features(*s, logits=True), features(maps(10, 8, seed=2), maps(12, 4, seed=3), logits=True)
    losses = crg(student, teacher, **options)(student, teacher)
    losses.total.backward()
    for each in s:
        assert torch.isfinite(each.grad).all()
        assert each.grad.abs().sum() > 0


def test_levels_are_averaged_summed_and_weighed():
    student, teacher = features(maps(seed=0), maps(8, 4, seed=1)), features(maps(seed=2), maps(8, 4, seed=3))
    single = [crg(student, teacher, maps={name: name})(student, teacher) for name in ("m0", "m1")]
    for options, expected in (({}, (0.5, 0.5)),):
        for name, value in crg(student, teacher, **options)(student, teacher).items():
            assert_close(value, expected[0] * single[0][name] + expected[1] * single[1][name])


def test_the_warm_up_counts_training_batches_on_the_device():
    student, teacher = features(maps(seed=0)), features(maps(seed=1))
    distiller = crg(student, teacher, warmup_steps=4)
    full = crg(student, teacher)(student, teacher)["crg/spectral"]
    for expected in (0.25, 0.5, 0.75, 1.0, 1.0):
        assert_close(distiller(student, teacher)["crg/spectral"], expected * full)
    again = crg(student, teacher, warmup_steps=4)
    again.load_state_dict({**again.state_dict(), "steps": torch.tensor(2)})
    assert_close(again.eval()(student, teacher)["crg/spectral"], 0.5 * full)  # evaluation does not count
    assert_close(again(student, teacher)["crg/spectral"], 0.5 * full)


@pytest.mark.parametrize("wrapped", [lambda crg: crg, lambda crg: CombinedDistiller({"crg": crg})])
def test_accumulated_batches_count_as_one_update(wrapped):
    student, teacher = features(maps(seed=0)), features(maps(seed=1))
    distiller = crg(student, teacher, warmup_steps=4)
    module = wrapped(distiller)
    full, found = crg(student, teacher)(student, teacher)["crg/spectral"], []
    for number in range(6):
        with same_update(module, holds=number % 2 > 0):
            found.append(distiller(student, teacher)["crg/spectral"] / full)
    assert_close(torch.stack(found), torch.tensor([0.25, 0.25, 0.5, 0.5, 0.75, 0.75], dtype=F64))
    assert not distiller.same_update


def test_the_warm_up_in_chunks_is_that_of_the_whole_batch():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1))
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(8, 3)).to(F64)
    student = Tap(model, maps=["0.1"])
    images, target = torch.randn(6, 3, 6, 6, dtype=F64), torch.arange(6) % 3
    teacher = Tap(deepcopy(model), maps=["0.1"])(images + 1).detach()
    found = []
    for chunk in (None, 2):
        step = Step(student, crg(teacher, teacher, warmup_steps=4), task=nn.functional.cross_entropy, chunk=chunk)
        updates = []
        for _ in range(5):
            losses = step(images, teacher, target=target)
            gradient = torch.autograd.grad(losses.total, model[0][0].weight)[0]
            updates.append((losses["crg/spectral"].detach(), gradient, step.distillers[0].steps.clone()))
        found.append(updates)
    assert_close(*found)
    assert [int(steps) for _, _, steps in found[1]] == [1, 2, 3, 4, 5]


def test_a_weight_of_zero_removes_the_term_and_without_any_the_adapter():
    narrow, wide = features(maps(6), logits=True), features(maps(10, seed=1), logits=True)
    assert set(crg(narrow, wide, beta=0, gamma=0)(narrow, wide)) == {"crg/vertex"}
    kd = crg(narrow, wide, alpha=0, beta=0, gamma=0, kd_weight=1.0)
    assert set(kd(narrow, wide)) == {"crg/kd"}
    assert not list(kd.parameters())


def test_maps_are_averaged_to_28_positions_at_most():
    s, t = features(maps(4, 30)), features(maps(4, 40, seed=1))
    found = [each.maps["m0"].shape[-1] for each in crg(s, t, k=2).prepare(s, t)]
    small = [each.maps["m0"].shape[-1] for each in crg(s, t, k=2).prepare(features(maps(4, 6)), t)]
    assert (found, small) == ([28, 28], [6, 6])


def test_the_graph_holds_channels_of_an_image():
    student, teacher = features(maps(6)), features(maps(10, seed=1))
    distiller = crg(student, teacher)
    graph = distiller.build(distiller.prepare(student, teacher)[0], "student")
    assert graph["m0"].x.shape == (3, 10, 25)
    assert graph["m0"].scope == "image"
    assert graph.edges("m0", "pearson", "m0").dense().shape == (3, 10, 10)


def test_nothing_reaches_the_teacher():
    t = maps(seed=1).requires_grad_()
    s = maps(seed=0).requires_grad_()
    of_maps(s, t, vertex_attention="mean", spectral_form="projector").total.backward()
    assert t.grad is None
    assert s.grad.abs().sum() > 0


def test_between_takes_features_channels_or_networks():
    class Net(nn.Module):
        def forward(self, images):
            assert not self.training
            return features(images.repeat(1, 4, 1, 1))

    given = {"maps": {"m0": "m0"}, "k": 4}
    from_features = CRGDistiller.between(features(maps(6)), features(maps(10)), **given)
    from_sizes = CRGDistiller.between({"m0": 6}, {"m0": 10}, **given)
    assert [p.shape for p in from_features.parameters()] == [p.shape for p in from_sizes.parameters()]
    net = Net().train()
    probed = CRGDistiller.between(net, {"m0": 10}, probe=torch.zeros(1, 3, 8, 8))
    assert probed.levels[0].student_channels == 12
    assert net.training


def test_compiled_equals_eager_and_a_copy_equals_its_original():
    s, t = features(maps(6)), features(maps(10, seed=1))
    distiller = crg(s, t).eval()
    expected = distiller(s, t)
    compiled = torch.compile(distiller, backend="aot_eager", fullgraph=True)(s, t)
    for name, value in deepcopy(distiller)(s, t).items():
        assert_close(value, expected[name])
        assert_close(compiled[name], expected[name])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"adapter": "none"}, ShapeError, "'m0' has 6 channels, 'm0' 10, and the terms edge, spectral, vertex compare"),
        ({"edge_alignment": "kl"}, OptionError, "'kl' compares whole rows .* edge_attention='off'"),
        ({"k": 10}, OptionError, "a graph of 10 nodes has 9 non-trivial eigenvectors, 10 were asked for: lower k"),
        ({"maps": {"layer9": "m0"}}, UnknownNameError, "unknown one of the maps 'layer9'. Known: m0"),
        ({"maps": {"m0": "layer9"}}, UnknownNameError, "unknown one of the maps 'layer9'"),
        ({"maps": {}}, OptionError, "CRG has no maps to compare"),
        ({"kd_temperature": 0.0}, OptionError, "kd_temperature is > 0"),
        ({"alpha": -1.0}, OptionError, "the weight of the vertex term is a finite number >= 0, found -1"),
        ({"kd_weight": 1.0}, MissingFeatureError, "CRG's kd term needs features.logits"),
    ],
)
def test_bad_options_are_named(options, error, message):
    student, teacher = features(maps(6)), features(maps(10, seed=1))
    with pytest.raises(error, match=message):
        crg(student, teacher, **options)(student, teacher)


def test_maps_that_do_not_fit_are_named():
    s, t = features(maps(6)), features(maps(10, seed=1))
    distiller = crg(s, t)
    with pytest.raises(ShapeError, match=r"student map 'm0': found \(3, 7, 5, 5\), expected \(b, 6, h, w\)"):
        distiller(features(maps(7)), t)
    with pytest.raises(MissingFeatureError, match=r"CRG \(teacher\) needs features.maps"):
        distiller(s, Features(logits=torch.zeros(3, 2, dtype=F64)))
    with pytest.raises(ShapeError, match=r"student has 1 \(m0\), the teacher 2 \(m0, m1\): name the pairs"):
        CRGDistiller.between(s, features(maps(), maps()))
    with pytest.raises(OptionError, match="give the student's Features of a batch"):
        CRGDistiller.between(lambda images: s, t)
    with pytest.raises(ShapeError, match=r"student maps \(3, 6, 5, 5\) and teacher maps \(3, 10, 5, 5\) differ"):
        crg_edge(maps(6), maps(10))
    with pytest.raises(ShapeError, match="differ in samples: give both sides the same batch"):
        crg_spectral(maps(6, batch=2), maps(6, batch=3))
