"""Another version beside this one: a slow-down is flagged, noise is not."""

import shutil

import numpy as np
import pytest

from benchmarks.case import cases
from benchmarks.compare import compare, judge, main, table
from benchmarks.machine import ROOT

SLOWER = """

_whole_knn = knn


def knn(x, k):
    _whole_knn(x[: int(0.55 * len(x))], k)  # 0.55 squared: 30 % more work
    return _whole_knn(x, k)
"""


def samples(factor, spread, seed, n=20, luck=0.0):
    """Of three starts, each with its luck; noise of a machine only ever adds."""
    draw = np.random.default_rng(seed)
    return [list(factor * (1 + luck * draw.normal()) * (1 + spread * draw.exponential(size=n))) for _ in range(3)]


@pytest.mark.parametrize("spread", [0.01, 0.1])
def test_thirty_per_cent_are_caught(spread):
    found = judge("x", "8", samples(1, spread, 0), samples(1, spread, 1), samples(1.3, spread, 2))
    assert found.flagged
    assert found.slower == pytest.approx(1.3, rel=0.1)


@pytest.mark.parametrize("spread", [0.01, 0.1, 0.5])
def test_the_same_version_is_not(spread):
    found = judge("x", "8", samples(1, spread, 0), samples(1, spread, 1), samples(1, spread, 2))
    assert not found.flagged
    assert abs(found.slower - 1) <= max(found.noise, 0.05)


@pytest.mark.parametrize("seed", range(20))
def test_luck_of_single_starts_is_not_taken_for_a_slow_down(seed):
    base, again, new = (samples(1, 0.01, 3 * seed + k, luck=0.08) for k in range(3))
    assert not judge("x", "8", base, again, new).flagged


def test_a_machine_too_restless_to_say_flags_nothing():
    found = judge("x", "8", samples(1, 3, 0), samples(1.4, 3, 1), samples(1.3, 3, 2))
    assert not found.flagged
    assert found.noise > 0.3


def test_flagged_cases_come_first():
    quiet = judge("a", "8", [[1.0] * 5], [[1.0] * 5], [[1.0] * 5])
    slow = judge("b", "8", [[1.0] * 5], [[1.0] * 5], [[2.0] * 5])
    lines = table([quiet, slow]).splitlines()
    assert lines[1].startswith("b")
    assert lines[1].endswith("SLOWER")


def test_a_reference_that_is_not_there_says_so():
    with pytest.raises(SystemExit, match="'no-such-revision' is neither a folder with graphkd/ nor a git revision"):
        main(["no-such-revision"])


def another_version(folder, more):
    """The library with some lines more at the end of its operations."""
    for name in ("graphkd", "kernels"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    door = folder / "graphkd" / "ops.py"
    door.write_text(door.read_text() + more)


@pytest.mark.slow
def test_a_deliberate_slow_down_of_one_operation_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.compare.STARTS", 2)
    another_version(tmp_path, SLOWER)
    chosen = [cases()[name] for name in ("knn", "center_normalize")]
    for _ in range(3):  # the same verdict must come once on a machine that others use
        slow, same = compare(ROOT, tmp_path, chosen, rounds=60, threads=1)
        assert not same.flagged
        if slow.flagged:
            break
    assert slow.flagged, slow
    assert 1.15 < slow.slower < 1.6


@pytest.mark.slow
def test_a_version_without_a_case_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.compare.STARTS", 1)
    another_version(tmp_path, "\n\ndef knn(x, k):\n    raise RuntimeError('not in this version')\n")
    (found,) = compare(tmp_path, ROOT, [cases()["knn"]], rounds=2, threads=1)
    assert found.why.startswith("the other version: ")
    assert "not in this version" in found.why
