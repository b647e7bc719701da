"""Fitted exponents, and sweeps that end before the machine does."""

import pytest

from benchmarks import scaling
from benchmarks.case import cases
from benchmarks.memory import Weighed
from benchmarks.scaling import axis_of, exponent, next_value, sweep


def test_a_power_law_gives_its_exponent():
    sizes = [64, 256, 1024, 4096]
    assert exponent(sizes, [3e-6 * n**2 for n in sizes]) == pytest.approx(2)


def test_only_the_largest_points_count():
    sizes = [1, 2, 4, 64, 128, 256, 512]
    assert exponent(sizes, [100, 100, 100, *(n**1.5 for n in sizes[3:])]) == pytest.approx(1.5)


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0]])
def test_too_few_points_have_no_exponent(values):
    assert exponent(list(range(1, len(values) + 1)), values) is None


def test_the_next_point_is_foreseen():
    assert next_value([10, 20], [100, 400], 40) == pytest.approx(1600)
    assert next_value([10], [100], 40) == 0


def test_the_axis_is_what_differs():
    assert axis_of(((8, 64, 49), (8, 128, 49))) == 1


@pytest.fixture
def quadratic(monkeypatch):
    asked = []

    def fake(name, shape, *_):
        asked.append(shape[0])
        return Weighed(peak_mib=shape[0] ** 2 * 1e-4, high_mib=0, ms=shape[0] ** 2 * 1e-3)

    monkeypatch.setattr(scaling, "weighed", fake)
    return asked


def test_a_sweep_ends_before_it_takes_too_long(quadratic):
    row = sweep(cases()["rkd_distance"], "N", "eager", "cpu", seconds=20, memory_mib=1e9)
    assert quadratic == [64, 256, 1024, 4096]
    assert row["stopped"] == "N = 16384 takes about 2.7e+02 s"
    assert row["time_exponent"] == pytest.approx(2)
    assert row["memory_exponent"] == pytest.approx(2)
    assert row["shape"] == "Nx256"


def test_what_does_not_fit_says_what_it_needs(quadratic):
    row = sweep(cases()["rkd_distance"], "N", "eager", "cpu", seconds=1e9, memory_mib=10_000)
    assert row["stopped"] == "N = 16384 needs 26.2 GiB"
    assert [point["size"] for point in row["points"]] == [64, 256, 1024, 4096]


def test_a_point_that_fails_ends_the_sweep_with_its_reason(monkeypatch):
    def fail(*_):
        raise RuntimeError("no answer within 60 s")

    monkeypatch.setattr(scaling, "weighed", fail)
    row = sweep(cases()["rkd_distance"], "N", "eager", "cpu", seconds=1)
    assert row["points"] == []
    assert row["stopped"] == "N = 64: no answer within 60 s"
