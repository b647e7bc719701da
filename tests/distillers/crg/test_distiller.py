"""CRG: its equations, and the invariants of its specification."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.crg.distiller import CRGDistiller
from graphkd.functional import crg_edge, crg_spectral, crg_vertex
from graphkd.graphs.spectral_losses import SPECTRAL_FORMS
from tests.distillers.crg_case import F64, crg, features, maps, of_maps

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


@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
def test_every_term_is_zero_at_the_teacher_with_finite_gradients(form):
    x = maps().requires_grad_()
    losses = of_maps(x, x.detach(), spectral_form=form, attention_weight=1.0)
    for value in losses.values():
        assert_close(value, torch.zeros((), dtype=F64), atol=1e-12, rtol=0)
    losses.total.backward()
    assert torch.isfinite(x.grad).all()


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


def test_a_nan_is_not_hidden():
    x = maps()
    x[0, 0, 0, 0] = torch.nan
    assert all(value.isnan() for value in of_maps(x, maps(seed=1)).values())


@pytest.mark.parametrize("form", sorted(SPECTRAL_FORMS))
def test_joint_channel_permutation_and_batch_order_change_nothing(form):
    s, t = maps(seed=0), maps(seed=1)
    order, batch = torch.randperm(10, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0, 1])
    value = of_maps(s, t, spectral_form=form)
    for name, found in of_maps(s[:, order], t[:, order], spectral_form=form).items():
        assert_close(found, value[name])
    for name, found in of_maps(s[batch], t[batch], spectral_form=form).items():
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


# --- options --------------------------------------------------------------------------------------------------------
