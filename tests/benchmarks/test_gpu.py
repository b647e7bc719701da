"""The GPU's command: what comes first, what a target is worth, what a dead cell costs, and what it says where there is no GPU."""

import json

import pytest
import torch
from graphkd_kernels.targets import TARGETS, Target

from benchmarks import gpu
from benchmarks.case import cases, random
from benchmarks.gpu import judged, main, reached, small, targets
from benchmarks.results import Results


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_changes_nothing(capsys, tmp_path):
    assert main(["--out", str(tmp_path / "none")]) == 2
    assert "no CUDA device here: nothing was measured" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_targets_of_triton_come_before_those_of_eager():
    forms = [job[3] for job in targets()]
    assert forms == ["triton"] * len(TARGETS) + ["eager"] * len(TARGETS)


def test_small_sizes_are_those_of_a_training_step():
    assert {job[2][0] for job in small()} == {64, 256, 1024}
    assert all(len(job[2]) == len(cases()[job[1]].shapes[0]) for job in small())


def test_every_target_is_a_case():
    for each in TARGETS:
        assert each.case in cases()
        assert len(each.shape) == len(cases()[each.case].shapes[0])
        assert each.floor < each.target


@pytest.mark.parametrize(("bound", "share"), [("launch", 0.5), ("compute", 2.0)])
def test_a_launch_bound_entry_is_judged_by_the_wall_clock(bound, share):
    row = {"ms": 0.02, "graph_ms": 0.005}
    assert reached(row, Target("edge_sum", (256, 512), 0.7, 10, bound)) == pytest.approx(share)


def test_inputs_are_made_where_they_are_used():
    with torch.device("meta"):
        made = torch.empty(1)
    assert made.device.type == "meta"
    assert torch.equal(random(3, 2), random(3, 2))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Cells that are written down here: (form) -> rows."""
    script = {
        "triton": [{"died": "its process was ended by SIGSEGV"}],
        "eager": [{"kind": "device"}, {"kind": "target", "case": "knn", "shape": "8x4", "dtype": "float32", "form": "eager", "ms": 2.0}],
    }  # fmt: skip
    monkeypatch.setattr(gpu, "rows_of", lambda work, arguments, silent, seconds: iter(script[arguments[3]]))
    environment = {"kind": "cuda", "device": "A card", "date": "2026-01-01 00:00 UTC", "roofline": {}}
    return gpu.Run(tmp_path, Results(tmp_path / "table.json", environment), 60.0)


def test_a_cell_that_dies_is_named_and_the_rest_goes_on(run, tmp_path):
    run.jobs(iter([("target", "knn", (8, 4), form, "float32") for form in ("triton", "eager")]))
    rows = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()]
    assert [row.get("why", row.get("ms")) for row in rows] == ["its process was ended by SIGSEGV", 2.0]
    assert len(run.results.rows) == 2


def test_cells_beyond_the_time_are_counted(run, capsys):
    run.end = 0.0
    run.jobs(iter([("target", "knn", (8, 4), "eager", "float32")] * 3))
    assert capsys.readouterr().out == "3 of 3 cells were not reached\n"


def test_triton_is_compared_with_eager_as_soon_as_both_are_there(run):
    about = {"kind": "target", "case": "knn", "shape": "1024x512", "dtype": "bfloat16"}
    run.take(about | {"form": "triton", "ms": 0.03})
    run.take(about | {"form": "eager", "ms": 0.3})
    assert run.results.rows[0]["over_eager"] == 10.0
    assert judged(run.results.rows) == ["knn 1024x512, bfloat16                         0.50 of its target  <- say why"]
