"""Files of results: kept row by row, one version each."""

import pytest

from benchmarks.machine import library_digest
from benchmarks.results import Results, latest, read, told

HERE = {
    "device": "a processor", "kind": "cpu", "threads": 2, "python": "3.11", "versions": {"torch": "2"},
    "library": "abc", "date": "2030-01-02 03:04 UTC", "roofline": {"tflop_s_float32": 0.1, "gb_s": 30.0},
}  # fmt: skip


def row(**fields):
    return {"kind": "op", "case": "row_kl", "shape": "8x5", "dtype": "float32", "form": "eager", "ms": 1.0} | fields


def test_every_row_is_on_disk_at_once(tmp_path):
    results = Results(tmp_path / "a.json", HERE)
    for i, form in enumerate(("eager", "blocked")):
        results.add(row(form=form))
        assert len(read(tmp_path / "a.json")["rows"]) == i + 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_row_is_told_in_a_line():
    told_row = told(row(low_ms=0.9, over_eager=2.0, peak_mib=3.0))
    assert told_row.split() == ["row_kl", "8x5", "eager", "1", "ms,", "2.00x", "eager,", "3", "MiB"]
    step = {"kind": "step", "case": "step", "shape": "32", "plain_ms": 662.0, "prg_loss_ms": 9.678}
    assert told(step).split() == ["step", "32", "plain", "662", "ms,", "prg_loss", "9.678", "ms"]
    sweep = {"kind": "scaling", "case": "knn", "axis": "N", "form": "eager", "points": [{"size": 64, "ms": 1.0}]}
    assert told(sweep).split() == ["knn", "eager", "N", "64:", "1", "ms"]
    assert told({"case": "kd", "form": "triton", "why": "no GPU"}) == ""


def test_a_cell_measured_again_replaces_its_row(tmp_path):
    for ms in (1.0, 2.0):
        Results(tmp_path / "a.json", HERE).add(row(ms=ms))
    assert [each["ms"] for each in read(tmp_path / "a.json")["rows"]] == [2.0]


@pytest.mark.parametrize("other", [{"library": "def"}, {"versions": {"torch": "3"}}, {"threads": 1}])
def test_another_version_gets_a_file_of_its_own(tmp_path, other):
    Results(tmp_path / "a.json", HERE).add(row())
    Results(tmp_path / "a.json", HERE | other).add(row(ms=9.0))
    assert read(tmp_path / "a.json")["rows"][0]["ms"] == 1.0
    assert read(tmp_path / "a-2.json")["rows"][0]["ms"] == 9.0


def test_another_day_continues_the_file_of_the_same_versions(tmp_path):
    Results.today(HERE, tmp_path).add(row())
    Results.today(HERE | {"date": "2030-01-09 00:00 UTC"}, tmp_path).add(row(form="blocked"))
    Results.today(HERE | {"date": "2030-01-09 00:00 UTC", "library": "def"}, tmp_path).add(row())
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "cpu-a-processor-2030-01-02.json",
        "cpu-a-processor-2030-01-09.json",
    ]
    assert len(read(tmp_path / "cpu-a-processor-2030-01-02.json")["rows"]) == 2


def test_the_highest_limits_that_were_seen_are_those_of_the_machine(tmp_path):
    Results(tmp_path / "a.json", HERE).add(row())
    Results(tmp_path / "a.json", HERE | {"roofline": {"tflop_s_float32": 0.2, "gb_s": 20.0}}).add(row())
    assert read(tmp_path / "a.json")["environment"]["roofline"] == {"tflop_s_float32": 0.2, "gb_s": 30.0}


def test_the_newest_of_each_device_is_shown_and_the_others_are_not_lost(tmp_path):
    for name, other in (("a", {}), ("b", {"date": "2030-01-03"}), ("c", {"device": "a GPU"})):
        Results(tmp_path / f"{name}.json", HERE | other).add(row())
    newest, older = latest(tmp_path)
    assert {each["name"] for each in newest} == {"b.json", "c.json"}
    assert [each["name"] for each in older] == ["a.json"]


def test_a_library_is_named_by_its_source(tmp_path):
    for folder in ("graphkd", "kernels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "graphkd" / "a.py").write_text("x = 1")
    before = library_digest(tmp_path)
    (tmp_path / "graphkd" / "a.py").write_text("x = 2")
    assert library_digest(tmp_path) != before
