"""CRG: its equations, the invariants of its specification, options, wiring, messages."""

import json
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd.distillers.base import same_update
from graphkd.distillers.combined import CombinedDistiller
from graphkd.distillers.crg.distiller import CRGDistiller
from graphkd.features import Features
from graphkd.functional import crg_edge, crg_spectral, crg_vertex
from graphkd.graphs.channels import AFFINITIES
from graphkd.graphs.spectral import SPECTRAL_FORMS
from graphkd.models.tap import Tap
from graphkd.step import Step

F64 = torch.float64


def maps(channels=10, size=5, batch=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, size, size, dtype=F64, generator=g).relu()


def features(*values):
    return Features(maps={f"m{i}": value for i, value in enumerate(values)})


def crg(student, teacher, **options):
    torch.manual_seed(0)
    return CRGDistiller.between(student, teacher, **{"k": 4, **options}).double()


def of_maps(student, teacher, **options):
    s, t = features(student), features(teacher)
    return crg(s, t, **options)(s, t)


GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "relational.json").read_text())


def test_the_terms_by_the_slow_obvious_loop():
    s, t = maps(6, 3, 2, seed=3), maps(6, 3, 2, seed=4)  # connected graphs
    found = of_maps(s, t, k=2, gamma=1.0, alpha=1.0, beta=1.0)
    vertex = edge = spectral = 0.0
    for f_s, f_t in zip(s.flatten(2), t.flatten(2), strict=True):
        channel = 6 * (f_t.mean(1) / 0.5).softmax(0)  # maps are not negative
        spatial = 9 * (f_t.mean(0) / 0.5).softmax(0)
        vertex += sum(channel[i] * spatial[p] * (f_s[i, p] - f_t[i, p]) ** 2 for i in range(6) for p in range(9)) / (
            6 * 9
        )
        cosine = [[[torch.dot(a, b) / (a.norm() * b.norm()) for b in f] for a in f] for f in (f_s, f_t)]
        edge += (
            sum(channel[i] * channel[j] * (cosine[0][i][j] - cosine[1][i][j]) ** 2 for i in range(6) for j in range(6))
            / 36
        )
        lap = []
        for f in (f_s, f_t):
            w = torch.corrcoef(f).clamp_min(0) * (1 - torch.eye(6, dtype=F64))
            d = w.sum(1)
            lap.append(torch.eye(6, dtype=F64) - w / (d[:, None] * d[None, :]).sqrt())
        u = torch.linalg.eigh(lap[1]).eigenvectors[:, 1:3]  # connected: the trivial one is the first
        spectral += ((lap[0] - lap[1]) @ u).square().sum() / 2
    assert_close(found["crg/vertex"], vertex / 2)
    assert_close(found["crg/edge"], edge / 2)
    assert_close(found["crg/spectral"], spectral / 2)


def test_the_pure_functions_are_the_terms():
    s, t = maps(seed=0), maps(seed=1)
    found = of_maps(s, t, alpha=1.0, beta=1.0, gamma=1.0)
    assert_close(found["crg/vertex"], crg_vertex(s, t))
    assert_close(found["crg/edge"], crg_edge(s, t))
    assert_close(found["crg/spectral"], crg_spectral(s, t, k=4))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["id"])
def test_row_normalised_gram_without_attention_is_ickd(case):
    g = torch.Generator().manual_seed(case["seed"])
    shape = case["N"], case["D"]
    t, s = (torch.randn(*shape, generator=g, dtype=F64) for _ in range(2))
    s.requires_grad_()
    view = case["N"], case["channels"], -1, 1
    options = {"edge_affinity": "unit_gram", "edge_alignment": "row_squares", "edge_attention": "off"}
    expected = GOLDEN["methods"]["ickd.official"]["cases"][case["id"]]
    view = (*view[:2], -1, 4) if case["D"] // case["channels"] % 4 == 0 else view  # no side above 28
    ours = of_maps(s.view(view), t.view(view), alpha=0, beta=1.0, gamma=0, **options)
    pure = crg_edge(s.view(view), t.view(view), affinity="unit_gram", alignment="row_squares", attention="off")
    for value in (ours.total, pure):
        (grad,) = torch.autograd.grad(value, s)
        assert_close(value.item(), expected["value"], rtol=1e-9, atol=1e-12)
        assert_close(grad.norm().item(), expected["grad_norm"], rtol=1e-9, atol=1e-12)
        assert_close(grad.flatten()[:4].tolist(), expected["grad_first4"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["residual", "projector", "heat"])
def test_gradcheck_of_all_terms(form):
    target = maps(6, 3, 2, seed=1)
    x = maps(6, 3, 2, seed=0) + 0.1
    assert torch.autograd.gradcheck(
        lambda x: of_maps(x, target, k=2, spectral_form=form).total, x.requires_grad_(), atol=1e-5
    )


def degenerate(kind):
    x = maps(10, 4, 3, seed=2)
    if kind == "duplicates":
        x[:, 1] = x[:, 2] = x[:, 0]
    elif kind == "dead":
        x[:, :3] = 0
    elif kind == "constant":
        x[:, 3] = 2.0
    elif kind == "all dead":
        x[:] = 0
    elif kind == "few positions":
        x = x[..., :2, :2]
    elif kind == "one image":
        x = x[:1]
    elif kind == "one position":
        x = x[..., :1, :1]
    elif kind == "disconnected":  # two groups of channels that live on different halves of the map
        x[:, :5, :2], x[:, 5:, 2:] = 0, 0
    return x


KINDS = ["duplicates", "dead", "constant", "all dead", "few positions", "one image", "one position", "disconnected"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", ["student", "both"])
def test_degenerate_maps_have_finite_values_and_gradients(kind, form, dtype, side):
    x = degenerate(kind).to(dtype).requires_grad_()
    other = degenerate(kind) if side == "both" else maps(*x.shape[1:3], len(x), seed=5)
    student, teacher = features(x), features(other.to(dtype))
    distiller = CRGDistiller.between(student, teacher, k=4, spectral_form=form)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        losses = distiller(student, teacher)
    assert losses.total.dtype == torch.float32
    assert torch.isfinite(losses.total)
    losses.total.backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() < 1e4


@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
def test_joint_channel_permutation_changes_nothing(form):
    s, t = maps(seed=0), maps(seed=1)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    value = of_maps(s, t, spectral_form=form)
    for name, found in of_maps(s[:, order], t[:, order], spectral_form=form).items():
        assert_close(found, value[name])


def test_attention_off_is_masks_of_ones_and_what_a_hot_temperature_tends_to():
    s, t = maps(seed=0), maps(seed=1)
    off = of_maps(s, t, vertex_attention="off", edge_attention="off", alpha=1.0, beta=1.0)
    assert_close(off["crg/vertex"], (s - t).square().mean())
    hot = of_maps(s, t, tau=1e9, alpha=1.0, beta=1.0)
    assert_close(hot["crg/vertex"], off["crg/vertex"])
    assert_close(hot["crg/edge"], off["crg/edge"])


def test_edges_ignore_the_scale_of_channels_and_the_spectral_graph_their_shift_too():
    s, t = maps(seed=0), maps(seed=1)
    scale = torch.rand(10, 1, 1, dtype=F64, generator=torch.Generator().manual_seed(3)) + 0.5
    value, scaled = of_maps(s, t), of_maps(scale * s, t)
    assert_close(scaled["crg/edge"], value["crg/edge"])
    assert_close(of_maps(scale * s + scale, t)["crg/spectral"], value["crg/spectral"])
    assert (scaled["crg/vertex"] - value["crg/vertex"]).abs() > 1e-3


def test_an_adapter_is_built_only_where_channels_differ_and_is_trainable():
    same, narrow, wide = features(maps(10)), features(maps(6)), features(maps(10, seed=1))
    assert not list(crg(same, wide).parameters())
    distiller = crg(narrow, wide)
    shapes = {tuple(each.shape) for each in distiller.parameters()}
    assert shapes == {(10, 6, 1, 1), (10,)}
    distiller(narrow, wide).total.backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in distiller.parameters())


OPTIONS = [
    *({term: name} for term in ("edge_affinity", "spectral_affinity") for name in AFFINITIES),
    *({"adapter": name} for name in ("conv", lambda student, teacher: nn.Conv2d(student, teacher, 1))),
    {"vertex_attention": "off", "edge_attention": "off", "tau": 0.3},
    {"edge_alignment": "huber"},
    {"edge_alignment": "kl", "edge_attention": "off"},
    {"spectral_form": partial(SPECTRAL_FORMS.get("heat"), time=4.0)},
    {"warmup_steps": 5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
def test_every_option_trains_the_student_only(options):
    s = [maps(6, 8).requires_grad_(), maps(12, 4).requires_grad_()]
    student, teacher = features(*s), features(maps(10, 8, seed=2).requires_grad_(), maps(12, 4, seed=3))
    crg(student, teacher, **options)(student, teacher).total.backward()
    for each in s:
        assert torch.isfinite(each.grad).all()
        assert each.grad.abs().sum() > 0
    assert teacher.maps["m0"].grad is None


def test_levels_are_averaged():
    student, teacher = features(maps(seed=0), maps(8, 4, seed=1)), features(maps(seed=2), maps(8, 4, seed=3))
    single = [crg(student, teacher, maps={name: name})(student, teacher) for name in ("m0", "m1")]
    for name, value in crg(student, teacher)(student, teacher).items():
        assert_close(value, (single[0][name] + single[1][name]) / 2)


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


def test_maps_are_averaged_to_28_positions_at_most():
    s, t = features(maps(4, 30)), features(maps(4, 40, seed=1))
    found = [each.maps["m0"].shape[-1] for each in crg(s, t, k=2).prepare(s, t)]
    small = [each.maps["m0"].shape[-1] for each in crg(s, t, k=2).prepare(features(maps(4, 6)), t)]
    assert (found, small) == ([28, 28], [6, 6])


def test_the_graph_holds_channels_of_an_image():
    student, teacher = features(maps(6)), features(maps(10, seed=1))
    distiller = crg(student, teacher)
    graph = distiller.build(distiller.prepare(student, teacher)[0], "student")
    assert graph["channel0"].x.shape == (3, 10, 25)
    assert graph["channel0"].scope == "image"
    assert graph.edges("channel0", "pearson", "channel0").dense().shape == (3, 10, 10)
