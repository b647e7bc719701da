"""Peak memory of a fresh process, against what a form must hold."""

import pytest

from benchmarks.case import cases
from benchmarks.memory import available_mib, weighed


@pytest.mark.slow
def test_a_matrix_of_known_size_is_seen():  # x, its squares and the kept root: 16 MiB each
    found = weighed("safe_sqrt", (2048, 2048), "eager", threads=1, budget=0.01)
    assert 32 <= found.peak_mib <= 160
    assert found.ms > 0
    assert found.high_mib > found.peak_mib


@pytest.mark.slow
def test_what_cannot_run_gives_its_reason():
    with pytest.raises(RuntimeError, match="backend 'triton' cannot run"):
        weighed("row_kl", (8, 5), "triton", threads=1)


@pytest.mark.slow
def test_more_than_the_machine_has_is_an_error_of_that_process_alone():
    n = int((available_mib() * 2**20 / 4) ** 0.5) + 1024
    with pytest.raises(RuntimeError, match="needs more than .* GiB"):
        weighed("squared_distances", (n, n, 1), "eager", threads=1)


def test_the_machine_has_memory_and_cases_have_names():
    assert available_mib() > 0
    assert "squared_distances" in cases()
