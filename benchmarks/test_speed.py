"""pytest benchmarks --benchmark-only: operations and distillers, forward and gradient; growth; steps, start."""

import pytest

from benchmarks import training_step
from benchmarks.case import cases
from benchmarks.conftest import cells
from benchmarks.scaling import sweep
from benchmarks.start import starts

BATCHES = [pytest.param(32, marks=pytest.mark.quick), 256, pytest.param(1024, marks=pytest.mark.slow)]
SWEEPS = [pytest.param(each, axis, id=f"{each.name}-{axis}") for each in cases("op").values() for axis in each.sweeps]


@pytest.mark.parametrize(("case", "shape", "form"), cells("op") + cells("method"))
def test_form(fill, case, shape, form):
    fill(case, shape, form)


@pytest.mark.parametrize("seconds", [0.3, pytest.param(5.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["eager", "official", "blocked", "triton"])
@pytest.mark.parametrize(("case", "axis"), SWEEPS)
def test_sweep(benchmark, device, save, case, axis, form, seconds):
    row = benchmark.pedantic(sweep, (case, axis, form, device, seconds), rounds=1)
    save(row)
    if not row["points"]:
        pytest.skip(row["stopped"])


@pytest.mark.parametrize("batch", BATCHES)
def test_training_step(benchmark, device, save, batch):
    row = benchmark.pedantic(training_step.measure, (batch, device), rounds=1)
    benchmark.extra_info |= row
    save(row)


@pytest.mark.quick
def test_start(benchmark, save, quick):
    found = benchmark.pedantic(lambda: dict(starts(1 if quick else 2)), rounds=1)
    row = {"kind": "start", "case": "start"} | {f"{name}_ms": ms for name, ms in found.items()}
    benchmark.extra_info |= row
    save(row)
