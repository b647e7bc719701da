import pytest
import torch

from benchmarks.accuracy import cifar, digits, eikd, students, tower
from benchmarks.accuracy.config import Config, Recipe
from benchmarks.accuracy.data import CIFAR
from benchmarks.accuracy.study import run, step_of
from graphkd.data.sources import ArraySource

RECIPE = Recipe(student="resnet20", epochs=1, batch=4, limit=8)


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return ArraySource(pixels.numpy(), [k % 100 for k in range(count)], [str(k) for k in range(100)])


@pytest.fixture
def untrained(monkeypatch):
    """A tower with fresh weights, and images of noise in the place of the data."""
    torch.manual_seed(0)
    made = tower.Tower(students.make("resnet20", 100, *CIFAR, maps=list(cifar.ALL)), torch.eye(100).repeat(1, 2)).eval()
    monkeypatch.setattr(tower, "load", lambda name, maps=None: made)
    monkeypatch.setattr(tower, "features", lambda name, kept: None)
    monkeypatch.setattr(tower, "unlabelled", lambda name, count: list(range(count)))
    monkeypatch.setattr(cifar.data, "cifar100", lambda part: images(12))
    monkeypatch.setattr(eikd, "pool", lambda: images(24, seed=1))
    monkeypatch.setattr(eikd, "KNOWN", 12)
    monkeypatch.setattr(eikd, "CHOSEN", 8)


@pytest.mark.parametrize("which", ["known", "random", "selected", "selected globally"])
def test_of_a_pool_so_many_different_images_are_chosen_and_again_the_same(untrained, which):
    found = eikd.chosen(which, seed=1)
    assert len(set(found[:8])) == 8
    assert max(found) < (12 if which == "known" else 24)
    assert found == eikd.chosen(which, seed=1)


@pytest.mark.parametrize("method", [each.label for each in eikd.METHODS])
def test_eikd_trains_without_a_label(untrained, method):
    row = next(each for each in eikd.METHODS if each.label == method)
    config = Config("eikd", row.label, row.name, 0, RECIPE, row.options, row.variant)
    problem = eikd.problem(config)
    assert step_of(config, problem).task is None
    assert 0 <= run(config, problem)["top1"] <= 100


@pytest.mark.parametrize("label", ["CRG", "SP", "EGA", "labels alone"])
def test_students_with_labels_see_the_teachers_maps(untrained, label):
    row = next(each for each in cifar.WITH_LABELS if each.label == label)
    config = Config("cifar100-labels", row.label, row.name, 0, RECIPE, row.options)
    assert 0 <= run(config, cifar.with_labels(config))["top1"] <= 100


def test_the_teachers_images_are_not_the_students():
    taught, free = tower.split(50_000, 40_000)
    assert len(taught) == 40_000
    assert sorted(taught + free) == list(range(50_000))
    assert len(tower.split(50_000, 50_000)[1]) == 50_000


def test_prompt_weights_change_the_teachers_logits_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(digits, "cache_folder", lambda: tmp_path)
    train = digits.train_stand_in
    monkeypatch.setattr(digits, "train_stand_in", lambda *args, **options: train(*args, **options, epochs=1))
    digits.teacher.cache_clear()
    first, second = digits.teacher("ratio scaled"), digits.teacher("softmax scaled")
    a, b = (each(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))) for each in (first, second))
    torch.testing.assert_close(a.embedding, b.embedding)
    assert not torch.allclose(a.logits, b.logits)
    digits.teacher.cache_clear()
