"""Promised ratios: the verdict of a claim, and what is said where it cannot be measured."""

import pytest

from benchmarks import ratios
from benchmarks.case import cases
from benchmarks.memory import Weighed
from benchmarks.ratios import CLAIMS, Claim, claim, host, large, light, line, small

SMALL = Claim("rkd_distance", (24, 8), "official", 0.0, 1.0, 1e-3, form="eager")


def weigh(monkeypatch, peaks):
    monkeypatch.setattr(ratios, "weighed", lambda name, shape, form, **_: Weighed(peaks[form], 100.0, 1.0))


def test_a_claim_holds_or_not(monkeypatch):
    weigh(monkeypatch, {"eager": 1.0, "official": 4.0})
    row = claim(SMALL, pairs=2)
    assert row["holds"]
    assert row["memory"] == 0.25
    assert row["pairs"] == 2
    weigh(monkeypatch, {"eager": 8.0, "official": 4.0})
    assert not claim(SMALL, pairs=2)["holds"]


def test_a_claim_that_cannot_be_measured_says_why(monkeypatch):
    row = claim(Claim("rkd_distance", (24, 8), "official", 1.0, form="triton"), pairs=2)
    assert row["holds"] is None
    assert "not measured: " in line(row)


def test_every_claim_is_of_a_case_and_a_form_that_exist():
    for each in CLAIMS:
        assert len(each.shape) == len(cases()[each.case].shapes[0])
        assert {each.form, each.over} <= set(cases()[each.case].forms)


def test_large_graphs_are_judged_by_memory_and_growth(monkeypatch):
    monkeypatch.setattr(ratios, "weighed", lambda name, shape, form, **_: Weighed(10.0, 2048.0, shape[0] * 1e-3))
    row = large("ega_sums", (256,))
    assert row["holds"]
    assert row["high_gib"] == 2
    assert "N^1.00" in line(row)
    monkeypatch.setattr(ratios, "weighed", lambda name, shape, form, **_: Weighed(10.0, 5000.0, shape[0] * 1e-3))
    assert not large("ega_sums", (256,))["holds"]


@pytest.mark.parametrize(("part", "kind"), [(small, "op"), (light, "method")])
def test_small_batches_end_with_the_geometric_mean(monkeypatch, part, kind):
    monkeypatch.setattr(ratios, "speed", lambda case, *_: {"faster": 4.0 if case.name in ("gram", "kd") else 1.0})
    *rows, mean = part(64)
    assert mean["case"] == "geometric mean"
    assert mean["faster"] == pytest.approx(4 ** (1 / len(rows)))
    assert mean["shape"] == "64"
    assert all(row["holds"] for row in [*rows, mean])
    forms = {case.name for case in cases(kind).values() if kind == "op" or not isinstance(case.official, str)}
    assert {row["case"] for row in rows} == {name for name in forms if kind == "method" or "." not in name}


@pytest.mark.slow
def test_a_plain_form_that_holds_all_angles_ends_before_it_is_too_large(monkeypatch):
    monkeypatch.setattr(ratios, "speed", lambda *_: {"faster": 1.0})
    rows = {row["case"] for row in light(1024)}
    assert "rkd" not in rows
    assert "rkd.distance" in rows


def test_host_time_stands_beside_that_of_a_bare_function():
    bare, *rows = host(rounds=1)
    assert bare["case"] == "bare autograd.Function"
    assert {row["case"] for row in rows} == set(cases("method"))
    assert "us of host time" in line(bare)
