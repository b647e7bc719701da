"""docs/evidence.md says what the committed results say."""

import json
from dataclasses import asdict, replace

import pytest

from benchmarks.accuracy.__main__ import RESULTS
from benchmarks.accuracy.config import Config
from benchmarks.accuracy.page import PAGE, filled
from benchmarks.accuracy.studies import STUDIES

PREPARED = "caltech-confirmed", "tin100", "tin100-choice", "tin100-more"  # whose places wait for their runs
PLACE = "Before.\n\n<!-- results: caltech -->{}<!-- end -->\n\nAfter.\n"


def keep(folder, top1, **changes):
    study = STUDIES["caltech"]
    label, name, options, variant, _ = study.methods[0]
    config = replace(Config("caltech", label, name, 0, study.base, options, variant), **changes)
    record = {"config": asdict(config), "result": {"top1": top1, "seconds": 50.0}, "versions": {"torch": "2.15.0"}}
    with open(folder / f"{config.study}.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")


def test_the_page_is_that_of_the_committed_results(tmp_path):
    page = PAGE.read_text()
    assert filled(page, RESULTS, tmp_path) == page
    waiting = [name for name in PREPARED if not (RESULTS / f"{name}.jsonl").is_file()]
    assert page.count("No results are committed yet") == len(waiting)
    for picture in tmp_path.iterdir():
        assert (PAGE.parent / "img" / "evidence" / picture.name).is_file()


def test_a_place_is_filled_again_and_again(tmp_path):
    keep(tmp_path, 62.5)
    keep(tmp_path, 63.5, seed=1)
    once = filled(PLACE.format(""), tmp_path, tmp_path)
    assert "| pseudo-label CE | 63.00 ± 0.71 | 2 |" in once
    assert once.startswith("Before.\n\n<!--")
    assert once.endswith("-->\n\nAfter.\n")
    assert (tmp_path / "caltech.svg").stat().st_size > 1000
    picture = (tmp_path / "caltech.svg").read_bytes()
    assert filled(once, tmp_path, tmp_path) == once
    assert (tmp_path / "caltech.svg").read_bytes() == picture


@pytest.mark.parametrize(("epochs", "precision", "shown"), [(40, "no", True), (40, "bf16", True), (3, "bf16", False)])
def test_other_precisions_count_and_other_recipes_do_not(tmp_path, epochs, precision, shown):
    keep(tmp_path, 62.5, recipe=replace(STUDIES["caltech"].base, epochs=epochs, precision=precision))
    assert ("| 62.50 |" in filled(PLACE.format(""), tmp_path, tmp_path)) == shown


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
