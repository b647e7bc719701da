"""pytest benchmarks/test_end_to_end.py --benchmark-only: share of the loss in a step, stores, time to start."""

import pytest

from benchmarks import storage, training_step

BATCHES = [pytest.param(32, marks=pytest.mark.quick), 256, pytest.param(1024, marks=pytest.mark.slow)]
SAMPLES = [pytest.param(2048, marks=pytest.mark.quick), 8192, pytest.param(65536, marks=pytest.mark.slow)]


@pytest.mark.parametrize("batch", BATCHES)
def test_training_step(benchmark, device, save, batch):
    row = benchmark.pedantic(training_step.measure, (batch, device), rounds=1)
    benchmark.extra_info |= row
    save(row)


@pytest.mark.parametrize("samples", SAMPLES)
def test_store(benchmark, save, samples):
    row = benchmark.pedantic(storage.rates, (samples,), rounds=1)
    benchmark.extra_info |= row
    save(row)


@pytest.mark.quick
def test_start(benchmark, save):
    found = benchmark.pedantic(lambda: dict(storage.starts()), rounds=1)
    row = {"kind": "start", "case": "start"} | {f"{name}_ms": ms for name, ms in found.items()}
    benchmark.extra_info |= row
    save(row)
