"""Several runs side by side."""

import json

import pytest

from graphkd.errors import MissingFeatureError, OptionError
from graphkd.pictures.compare import compare_runs, draw_compared_curves, rows_of_options, write_comparison
from tests.pictures.conftest import SCRIPT
from tests.pictures.test_report import Page


def a_run(folder, options, lines, versions=None):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(options))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "environment.json").write_text(json.dumps({"versions": versions or {"torch": "2"}}))
    return folder


@pytest.fixture
def two(tmp_path):
    first = [{"update": 1, "epoch": 0.5, "loss": 2.0}, {"update": 2, "epoch": 1, "top1": 0.25, "agreement": 0.5}]
    one = a_run(tmp_path / "one", {"lr": 0.1, "set": {"rho": 0.5}, "run": "one", "epochs": 1}, first)
    more = [*first, {"update": 4, "epoch": 2, "top1": 0.75}]
    options = {"lr": 0.1, "set": {"rho": 0.7}, "run": "two", "epochs": 2, "data": SCRIPT}
    return one, a_run(tmp_path / "two", options, more, {"torch": "3"})


def test_what_differs_and_what_was_reached(two):
    found = compare_runs(two)
    assert found.options == {"set/rho": [0.5, 0.7], "epochs": [1, 2], "data": [None, SCRIPT]}
    assert found.versions == {"torch": ["2", "3"]}
    assert found.scores == {"top1": [0.25, 0.75], "agreement": [0.5, 0.5]}
    assert (found.epochs, found.updates) == ([1.0, 2.0], [2, 4])
    assert found.note == "the runs differ in data, so their scores are of other images"
    assert ("version of torch", ["2", "3"]) in rows_of_options(found)
    json.dumps(found.to_json())


def test_curves_of_each_run(two):
    found = compare_runs(two)
    figure = draw_compared_curves(dict(zip(found.runs, found.lines, strict=True)))
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 2]  # loss, top-1, agreement
    assert list(figure.axes[1].lines[1].get_ydata()) == [25.0, 75.0]
    with pytest.raises(MissingFeatureError, match="no loss was read yet"):
        draw_compared_curves({"one": []})


def test_the_page_is_whole_and_names_are_not_run(two, tmp_path):
    page = write_comparison(compare_runs(two), tmp_path / "page.html").read_text()
    found = Page(page)
    assert len(found.of("img")) == 1
    assert found.of("script") == []
    assert SCRIPT in "".join(found.text)
    assert "so their scores are of other images" in page


def test_one_run_is_no_comparison(two):
    for runs in ([two[0]], [two[0], two[0]]):
        with pytest.raises(OptionError, match="needs two different runs or more"):
            compare_runs(runs)
