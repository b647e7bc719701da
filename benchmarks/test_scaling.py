"""pytest benchmarks/test_scaling.py --benchmark-only: growth with N, C, D and HW; all of it with ``-m slow``."""

import pytest

from benchmarks.case import cases
from benchmarks.scaling import sweep

SWEEPS = [(case, axis) for case in cases("op").values() for axis in case.sweeps]
FORMS = ("eager", "official", "blocked", "triton")


@pytest.mark.parametrize("seconds", [0.3, pytest.param(5.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("case", "axis"), [pytest.param(*each, id=f"{each[0].name}-{each[1]}") for each in SWEEPS])
def test_sweep(benchmark, device, save, case, axis, form, seconds):
    row = benchmark.pedantic(sweep, (case, axis, form, device, seconds), rounds=1)
    save(row)
    if not row["points"]:
        pytest.skip(row["stopped"])
