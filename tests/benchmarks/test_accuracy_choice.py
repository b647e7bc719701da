"""Weights are chosen on held-out images, confirmed elsewhere; what a run records on the way."""

import json
import os
from pathlib import Path

import pytest
import torch

from benchmarks.accuracy import caltech, choice, observer, report, tin100
from benchmarks.accuracy.choice import CHOSEN, FAMILIES, chosen, finalists, keep, winners
from benchmarks.accuracy.config import Config, Recipe
from benchmarks.accuracy.study import run, step_of, train_views
from tests.benchmarks.test_accuracy import problem

SCORES = {
    "KD, T = 1": {0: 50.0},
    "KD, T = 2": {0: 52.0, 1: 51.0, 2: 50.0},
    "KD, T = 4": {0: 51.0, 1: 52.0, 2: 53.0},
    "sum, x": {0: 60.0, 1: 60.0, 2: 60.0},
    "candidate a": {0: 70.0},
}


def test_finalists_lead_by_the_seeds_of_all_and_winners_by_the_seeds_of_finalists():
    assert finalists(SCORES) == ["KD, T = 2", "KD, T = 4", "sum, x", "candidate a"]
    assert winners(SCORES) == {"KD, tuned": "KD, T = 4", "sum, tuned": "sum, x"}


def test_what_is_chosen_becomes_a_row_and_what_is_not_cannot_run(tmp_path):
    trials = choice.trials(4.0)
    assert all(not each.name for each in chosen("one", trials, tmp_path))
    keep("other", SCORES, tmp_path)
    keep("one", {"KD, T = 2": dict.fromkeys(range(3), 1.0)}, tmp_path)
    assert set(json.loads((tmp_path / CHOSEN).read_text())) == {"one", "other"}
    first, second, third = chosen("one", trials, tmp_path)
    assert (first.label, first.options["temperature"]) == ("KD, tuned", 2.0)
    assert (second.name, third.name) == ("", "")


def test_sums_have_as_many_trials_as_candidates():
    trials = [method.label for method in tin100.CHOICE]
    kd, sums, candidates = (sum(label.startswith(start) for label in trials) for start in FAMILIES.values())
    assert sums == candidates == 9
    assert kd == 6


def test_the_committed_choice_is_that_of_the_committed_results():
    path = choice.RESULTS / CHOSEN
    if not path.is_file():
        pytest.skip("nothing is chosen yet")
    from benchmarks.accuracy.page import committed

    for study, found in json.loads(path.read_text()).items():
        assert winners(committed(study, choice.RESULTS)[0]) == found


@pytest.fixture
def data_folder():
    if not (Path(os.environ.get("GRAPHKD_DATA", "/nowhere")) / "tin100_classes.json").is_file():
        pytest.skip("GRAPHKD_DATA names no folder with TinyImageNet's arrays")


def test_thirds_of_caltech_are_each_held_out_once(data_folder):
    held = [caltech.choice(Config("caltech-choice", "a", "kd", seed, caltech.RECIPE)) for seed in range(3)]
    assert sum(len(each.scored) for each in held) == 1058
    assert {len(each.train) + len(each.scored) for each in held} == {1058}
    assert [len(each.teacher.embedding) for each in held] == [len(each.train) for each in held]


@pytest.mark.slow
def test_fifty_images_a_class_are_held_out_of_tinyimagenet(data_folder):
    kept, held = tin100.split()
    assert sorted([*kept, *held]) == list(range(25_000))
    labels = [tin100.data.tin100("train").target(index) for index in held]
    assert {labels.count(label) for label in range(100)} == {50}


RECIPE = Recipe(student="resnet20", epochs=3, batch=4)


def test_a_run_records_shares_seconds_and_a_curve():
    found = run(Config("caltech", "PRG", "prg", 1, RECIPE), problem())
    assert set(found["shares"]) == {"prg/ce", "prg/node", "prg/edge", "prg/kl"}
    for at in range(3):
        assert sum(each[at] for each in found["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert [epoch for epoch, _, _ in found["curve"]] == [1, 2, 3]
    assert found["curve"][-1][2] == found["top1"]
    assert 0 < found["curve"][0][1] <= found["curve"][-1][1] <= found["cpu_seconds"] + 0.2


def test_looking_at_shares_changes_nothing():
    config, task = Config("caltech", "PRG", "prg", 1, RECIPE), problem()
    step, views = step_of(config, task), train_views(config, task)
    before = {name: value.clone() for name, value in step.state_dict().items()}
    luck = torch.get_rng_state()
    shares = observer.mean_shares(step, observer.fixed_batches(views, 2, task.look), "no")
    assert sum(shares.values()) == pytest.approx(1)
    assert all(torch.equal(value, before[name]) for name, value in step.state_dict().items())
    assert torch.equal(torch.get_rng_state(), luck)
    assert all(each.grad is None for each in step.parameters())


def test_shares_and_curves_stand_beside_the_rows(tmp_path):
    shares = {"prg/ce": [0.5, 0.25, 0.1], "prg/kl": [0.46, 0.73, 0.9], "prg/edge": [0.04, 0.02, 0.0]}
    result = {"seconds": 9.0, "cpu_seconds": 7.0, "shares": shares, "curve": [[1, 3.0, 10.0], [2, 7.0, 20.0]]}
    records = [{"config": {"label": label}, "result": result} for label in ("PRG", "old")]
    records[1]["result"] = {"seconds": 3.0, "cpu_seconds": 2.0}
    text = report.table({"PRG": {0: 20.0}, "old": {0: 10.0}}, records, "old")
    assert "| in standard errors | CPU s | % of the gradient |" in text
    assert "| 7 | ce 28; kl 70; edge 2.0† |" in text
    assert text.endswith("| 2 |  |")
    del records[1]["result"]["cpu_seconds"]
    assert "| s a run | % of the gradient |" in report.table({"PRG": {0: 20.0}, "old": {0: 10.0}}, records, "old")
    assert "PRG" in report.curves(records, tmp_path / "a.svg", "Two").read_text()


def test_a_term_that_hardly_pulls_is_marked():
    found = report.shares([{"shares": {"a/x": [0.952] * 3, "a/y": [0.0476] * 3, "a/z": [0.0002] * 3}}])
    assert found == "x 95; y 4.8†; z < 0.1†"
    assert report.shares([{"shares": {"kd/kl": [1.0] * 3}}]) == report.shares([{}]) == ""
