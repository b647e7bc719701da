"""docs/evidence.md and the pages below it say what the committed results say."""

import json
import re
from dataclasses import asdict, replace

import pytest

from benchmarks.accuracy.__main__ import RESULTS
from benchmarks.accuracy.choice import CHOSEN
from benchmarks.accuracy.config import Config
from benchmarks.accuracy.page import PAGES, PICTURES, PLACE, SHARES, filled, number
from benchmarks.accuracy.studies import STUDIES

PLACE_OF = "Before.\n\n<!-- {} -->{}<!-- end -->\n\nAfter.\n"


def keep(folder, top1, row=0, result=None, **changes):
    study = STUDIES[changes.get("study", "caltech")]
    label, name, options, variant, _ = study.methods[row]
    config = replace(Config("caltech", label, name, 0, study.base, options, variant), **changes)
    result = {"top1": top1, "seconds": 50.0, **(result or {})}
    record = {"config": asdict(config), "result": result, "versions": {"torch": "2.15.0"}}
    folder.mkdir(exist_ok=True)
    with open(folder / f"{config.study}.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_that_of_the_committed_results(page, tmp_path):
    text = page.read_text()
    assert filled(text, RESULTS, tmp_path) == text
    assert re.findall(r"^ *<!-- (?:interval|score|fact)", text, re.MULTILINE) == []  # Markdown would end the paragraph
    assert text.count("<!-- end -->") == len(re.findall(r"<!-- \w+: ", text)) == len(PLACE.findall(text))
    for picture in tmp_path.iterdir():
        assert (PICTURES / picture.name).is_file()


@pytest.mark.parametrize(("row", "against"), [("sum, tuned", "KD, tuned"), ("PRG", "KD, tuned"), ("PRG", "sum, tuned")])
def test_the_readme_quotes_the_confirmed_figures(row, against):
    readme = " ".join((RESULTS.parents[2] / "README.md").read_text().split())
    assert number("caltech-confirmed", row, against, RESULTS) in readme
    assert number("caltech-confirmed", row, "", RESULTS).partition(" ±")[0] in readme


def test_every_study_with_results_has_its_place():
    places = [found for page in PAGES for found in PLACE.findall(page.read_text())]
    shown = [what for kind, what in places if kind == "results"]
    assert len(shown) == len(set(shown))
    assert set(shown) <= STUDIES.keys()
    assert {path.stem for path in RESULTS.glob("*.jsonl")} <= set(shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_gain_is_typed_by_hand(page):
    assert (
        re.findall(r"[\d.]+ (?:points?|standard errors?) (?:ahead|above|below|behind)", PLACE.sub("", page.read_text()))
        == []
    )


def test_a_place_is_filled_again_and_again(tmp_path):
    keep(tmp_path, 62.5)
    keep(tmp_path, 63.5, seed=1)
    once = filled(PLACE_OF.format("results: caltech", ""), tmp_path, tmp_path)
    assert "| pseudo-label CE | 63.00 ± 0.71 | 2 |" in once
    assert once.startswith("Before.\n\n<!--")
    assert once.endswith("-->\n\nAfter.\n")
    assert (tmp_path / "caltech.svg").stat().st_size > 1000
    picture = (tmp_path / "caltech.svg").read_bytes()
    assert filled(once, tmp_path, tmp_path) == once
    assert (tmp_path / "caltech.svg").read_bytes() == picture


def test_a_sentence_has_the_numbers_of_its_rows_and_keeps_its_line(tmp_path):
    for seed, gain in enumerate((1.0, 2.0)):
        keep(tmp_path, 60.0, seed=seed)
        keep(tmp_path, 60.0 + gain, row=1, seed=seed)
    (tmp_path / "teacher.json").write_text('{"val": {"images": 25000, "top1": 69.14}}')

    def shown(what):
        place = f"<!-- {what} -->"
        found = filled(f"| {place}old<!-- end --> |", tmp_path, tmp_path)
        assert found.startswith(f"| {place}")
        return found.removeprefix(f"| {place}").removesuffix("<!-- end --> |")

    assert shown("interval: caltech KD against pseudo-label CE") == "+1.50 [-4.85, +7.85]"  # 12.706 * 0.5
    assert shown("score: caltech KD") == "61.50 ± 0.71"
    assert shown("fact: teacher val images") == "25,000"
    assert shown("fact: teacher val top1") == "69.1"
    for waiting in ("interval: caltech PRG against KD", "score: caltech PRG", "interval: caltech-later A against B"):
        assert shown(waiting) == "not measured yet"
    assert "No results are committed yet." in shown("results: caltech-later")
    with pytest.raises(SystemExit, match="no method 'krd' in this study"):
        shown("interval: caltech PRG against KRD")


def test_a_choice_shows_its_winner_and_the_confirmation_says_which(tmp_path):
    for row in range(2):
        for seed in range(3):
            keep(
                tmp_path, 60.0 + row, row=row, study="caltech-choice", seed=seed, recipe=STUDIES["caltech-choice"].base
            )
    keep(tmp_path, 60.0, study="caltech-confirmed")
    (tmp_path / CHOSEN).write_text('{"caltech-choice": {"KD, tuned": "KD, T = 1"}}')
    winner = STUDIES["caltech-choice"].methods[1].label
    page = filled(PLACE_OF.format("results: caltech-choice", ""), tmp_path, tmp_path)
    assert page.count(", chosen |") == 1
    assert f"| **{winner}**, chosen | 61.00 ± 0.00 | 3 |" in page
    page = filled(PLACE_OF.format("results: caltech-confirmed", ""), tmp_path, tmp_path)
    assert "Chosen: KD, tuned is `KD, T = 1`." in page


def test_a_run_made_later_tells_the_shares_of_a_row_and_nothing_else(tmp_path):
    keep(tmp_path, 62.5)
    shares = {"prg/ce": [0.9, 0.98, 0.99], "prg/kl": [0.1, 0.02, 0.01]}
    keep(tmp_path / SHARES, 10.0, result={"shares": shares, "seconds": 1.0, "cpu_seconds": 1.0})
    page = filled(PLACE_OF.format("results: caltech", ""), tmp_path, tmp_path)
    assert "| pseudo-label CE | 62.50 | 1 | " in page
    assert "| 50 | ce 96; kl 4.3† |" in page
    assert "† under 5 % of the gradient" in page
    assert "those of later runs, one seed a row" in page


@pytest.mark.parametrize(("epochs", "precision", "shown"), [(40, "no", True), (40, "bf16", True), (3, "bf16", False)])
def test_other_precisions_count_and_other_recipes_do_not(tmp_path, epochs, precision, shown):
    keep(tmp_path, 62.5, recipe=replace(STUDIES["caltech"].base, epochs=epochs, precision=precision))
    assert ("| 62.50 |" in filled(PLACE_OF.format("results: caltech", ""), tmp_path, tmp_path)) == shown


def test_verdicts_of_two_studies_stand_on_the_page(tmp_path):
    for name, gain in (("caltech-prg", 1.0), ("cifar100-prg", 2.0)):
        for method in STUDIES[name].methods:
            if method.label in ("literal preset", "literal, with KL"):
                ours = {"study": name, "label": method.label, "method": method.name, "options": method.options}
                top1 = 50 + gain * ("KL" in method.label)
                for seed in range(2):
                    keep(tmp_path, top1 + seed * (1 + gain / 10), **ours, recipe=STUDIES[name].base, seed=seed)
    page = filled("<!-- verdicts: caltech-prg cifar100-prg against literal preset --><!-- end -->", tmp_path, tmp_path)
    assert "| change | Caltech-101 [95 %] | in standard errors | CIFAR-100 [95 %] |" in page
    assert "| literal, with KL | +1.00 " in page


def test_a_row_has_the_results_of_its_own_batch(tmp_path):
    study = STUDIES["caltech-batch"]
    for method in study.methods:
        ours = {"study": "caltech-batch", "label": method.label, "method": method.name, "options": method.options}
        recipe = method.recipe(study.base)
        keep(tmp_path, recipe.batch / 4, **ours, recipe=recipe)
        keep(tmp_path, 1.0, **ours, recipe=replace(study.base, batch=32))
    page = filled("<!-- results: caltech-batch --><!-- end -->", tmp_path, tmp_path)
    assert "| KD, 64 | 16.00 | 1 |" in page
    assert "| PRG, 256 | 64.00 | 1 |" in page
    assert "1.00" not in page
    assert "6 more runs have options or a recipe that the study no longer has" in page
