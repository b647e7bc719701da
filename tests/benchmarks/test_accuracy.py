import json
from dataclasses import asdict, replace

import pytest
import torch
from PIL import Image

from benchmarks.accuracy import students, studies
from benchmarks.accuracy.config import LATER, Config, Method, Recipe, fast_precision, grid
from benchmarks.accuracy.data import CIFAR, StoredTeacher
from benchmarks.accuracy.report import read, table, verdicts
from benchmarks.accuracy.runs import START, add, estimate, waiting
from benchmarks.accuracy.stats import mean_std, paired
from benchmarks.accuracy.study import Problem, run, training
from graphkd.data.sources import ArraySource

RECIPE = Recipe(student="resnet20", epochs=1, batch=4)


def test_paired_differences_by_hand():
    gap = paired([3.0, 4.0, 5.0], [1.0, 3.0, 4.0])
    assert gap.mean == pytest.approx(4 / 3)
    assert gap.error == pytest.approx((1 / 3) ** 0.5 / 3**0.5)
    assert gap.half == pytest.approx(4.303 / 3)
    assert gap.above_zero is False
    assert gap.errors == "**+4.0**"
    assert paired([2.0], [1.0]).half is None
    assert paired([0.4, 66.2], [0.1, 65.9]).errors == ""  # the same gain twice, but for rounding
    assert paired([2.0], [1.0]).errors == paired([1.0, 2.0], [1.0, 2.0]).errors == ""
    assert paired([1.0, 4.0], [0.0, 6.0]).errors == "-0.3"
    assert mean_std([1.0, 3.0]) == "2.00 ± 1.41"


def test_another_option_is_another_run_and_a_configuration_survives_json():
    config = Config("caltech", "PRG", "prg", 0, RECIPE, {"rho": 0.5})
    other = replace(config, options={"rho": 0.7})
    assert config.digest != other.digest
    assert Config.of(json.loads(json.dumps(asdict(config)))).digest == config.digest


@pytest.mark.parametrize("name", list(students.STUDENTS))
def test_students_give_embedding_and_logits(name):
    side = 64 if name.startswith("small") else 32
    with torch.no_grad():
        found = students.make(name, 7, *CIFAR).eval()(torch.rand(2, 3, side, side))
    assert found.logits.shape == (2, 7)
    assert found.embedding.shape[0] == 2


def problem():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (16, 32, 32, 3), generator=generator, dtype=torch.uint8).numpy()
    source = ArraySource(images, [k % 4 for k in range(16)], list("abcd"))
    unit = torch.nn.functional.normalize
    teacher = StoredTeacher(
        unit(torch.randn(16, 8, generator=generator), dim=1), unit(torch.randn(4, 8, generator=generator), dim=1)
    )
    assert isinstance(source.image(0), Image.Image)
    return Problem(source, source, teacher, lambda: students.make("resnet20", 4, *CIFAR), padding=4)


@pytest.mark.parametrize("method", ["prg", "kd", "labels"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_run_gives_the_same_number_again(method, precision):
    config = Config("caltech", method, method, 1, replace(RECIPE, precision=precision))
    first, second = run(config, problem()), run(config, problem())
    assert first["scores"] == second["scores"]
    assert 0 <= first["top1"] <= 100


def test_methods_are_chosen_by_labels_that_may_have_commas():
    chosen = studies.STUDIES["caltech"].chosen("prg, node only; KD")
    assert [method.label for method in chosen] == ["PRG, node only", "KD"]
    with pytest.raises(SystemExit, match="no method 'prgg'"):
        studies.STUDIES["caltech"].chosen("prgg")


def test_the_time_of_a_study_is_told_from_its_steps(capsys):
    configs = grid("caltech", [Method("KD", "kd", {}), Method("labels", "labels", {})], RECIPE, seeds=2)
    assert estimate(configs, lambda config: problem(), processes=2) >= 2 * START
    assert "KD: about" in capsys.readouterr().out
    assert fast_precision() in ("bf16", "no")


@pytest.mark.parametrize("name", list(studies.STUDIES))
def test_every_study_names_its_rows_and_runs_in_the_machines_precision(name):
    study = studies.STUDIES[name]
    labels = [method.label for method in [*study.methods, *study.more]]
    assert len(labels) == len(set(labels))
    assert {study.against, *study.ours, *study.theirs} <= set(labels)
    assert study.recipe().precision == fast_precision()
    assert (study.recipe(batch=128).batch, study.recipe(epochs=4).epochs) == (128, 4)


def test_a_method_may_change_the_recipe():
    one, other = grid(
        "caltech", [Method("a", "kd", {}), Method("b", "kd", {}, changes={"batch": 256})], RECIPE, seeds=1
    )
    assert one.recipe == RECIPE
    assert other.recipe == replace(RECIPE, batch=256)


def test_what_recipes_learned_later_leaves_older_names_alone():
    config = Config("caltech", "PRG", "prg", 0, RECIPE)
    assert config.digest == "6de743ff"  # as it was named before they came
    assert replace(config, recipe=replace(RECIPE, accumulate=4)).digest != config.digest
    assert replace(config, recipe=replace(RECIPE, chunk=64)).digest != config.digest
    older = {key: value for key, value in asdict(config)["recipe"].items() if key not in LATER}
    assert Config.of({**asdict(config), "recipe": older}) == config


def test_a_recipe_reaches_the_training_loop():
    recipe = Recipe("resnet20", 9, 32, 0.1, 2.0, 0.3, precision="bf16", accumulate=4, chunk=8, compile=True)
    found = training(recipe, seed=5)
    assert (found.epochs, found.batch_size, found.lr, found.warmup_epochs, found.weight_decay) == (9, 32, 0.1, 2.0, 0.3)
    assert (found.precision, found.accumulate, found.chunk, found.compile) == ("bf16", 4, 8, True)
    assert (found.seed, found.evaluate_every) == (5, 2)
    assert studies.STUDIES["cifar100-full"].recipe().compile  # a GPU is what it is for


def test_a_batch_of_several_graphs_and_one_graph_in_chunks_are_different_runs():
    base = replace(RECIPE, batch=4)
    parts = run(Config("caltech", "a", "prg", 1, replace(base, accumulate=2)), problem())
    whole = run(Config("caltech", "b", "prg", 1, replace(base, batch=8, chunk=4)), problem())
    alone = run(Config("caltech", "c", "kd", 1, replace(base, accumulate=2)), problem())
    again = run(Config("caltech", "d", "kd", 1, replace(base, batch=8, chunk=4)), problem())
    assert parts["scores"] != whole["scores"]
    assert alone["scores"]["calibration_error"] == pytest.approx(again["scores"]["calibration_error"], abs=1e-3)


def test_a_gain_is_one_on_every_data_set():
    one = {"old": {0: 1.0, 1: 2.0}, "both": {0: 2.0, 1: 3.1}, "first": {0: 2.0, 1: 3.1}, "here": {0: 5.0}}
    other = {"old": {0: 4.0, 1: 4.0}, "both": {0: 5.0, 1: 5.1}, "first": {0: 5.0, 1: 4.0}}
    _, _, both, first = verdicts({"One": one, "Other": other}, "old").splitlines()
    assert both == "| both | +1.05 [+0.41, +1.69] | **+21.0** | +1.05 [+0.41, +1.69] | **+21.0** | a gain |"
    assert first.endswith("| +1.0 | none |")


def test_results_become_a_table(tmp_path):
    configs = grid("caltech", [Method("KD", "kd", {}), Method("PRG", "prg", {})], RECIPE, seeds=2)
    for config in configs[:3]:  # an interrupted study: the last pair is incomplete
        top1 = 60.0 + config.seed + (config.label == "PRG")
        add(tmp_path, config, {"top1": top1, "seconds": 2.0})
    assert waiting(configs, tmp_path) == configs[3:]
    scores, records = read(configs, tmp_path)
    assert scores == {"KD": {0: 60.0, 1: 61.0}, "PRG": {0: 61.0}}
    assert "| PRG | 61.00 | 1 | +1.00 (one pair) |  | 2 |" in table(scores, records, "KD")
