"""The GPU's command: what comes first, what a target is worth, and what it says where there is none."""

import pytest
import torch

from benchmarks.case import cases
from benchmarks.gpu import jobs, main, reached
from benchmarks.targets import TARGETS, Target


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_changes_nothing(capsys):
    assert main([]) == 2
    assert "no CUDA device here: nothing was measured" in capsys.readouterr().out


def test_targets_come_first_and_fused_forms_before_the_others():
    order = [(job[0], job[3]) for job in jobs()]
    first = len(TARGETS)
    assert set(order[:first]) == {("target", "triton")}
    assert order.index(("op", "eager")) > order.index(("target", "eager"))


def test_every_target_is_a_case():
    for each in TARGETS:
        assert each.case in cases()
        assert len(each.shape) == len(cases()[each.case].shapes[0])
        assert each.floor < each.target


@pytest.mark.parametrize(("bound", "share"), [("launch", 0.5), ("compute", 2.0)])
def test_a_launch_bound_entry_is_judged_by_the_wall_clock(bound, share):
    row = {"ms": 0.02, "graph_ms": 0.005}
    assert reached(row, Target("edge_sum", (256, 512), 0.7, 10, bound)) == pytest.approx(share)
