"""PRG: degenerate inputs, NaN, half precision, and compiled."""

import pytest
import torch
from torch.testing import assert_close

from tests.distillers.prg_case import F64, PARTS, make, student, teacher


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
    "options",
    [{}, {"preset": "ega", "edges": "sample", "rho": 1.0}],
    ids=str,
)
def test_compiled_whole_is_eager(options):
    results = []
    for compile_it in (False, True):
        distiller, s = make(**options), student()
        call = torch.compile(distiller, fullgraph=True, backend="aot_eager") if compile_it else distiller
        losses = call(s, teacher())
        losses.total.backward()
        results.append((dict(losses), s.embedding.grad, dict(distiller.named_buffers())))
    assert_close(*results)
