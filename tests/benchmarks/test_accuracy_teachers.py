import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.accuracy import cifar, digits, eikd, students, tower
from benchmarks.accuracy.config import Config, Recipe
from benchmarks.accuracy.data import CIFAR, Split, StoredTeacher
from benchmarks.accuracy.study import run, step_of
from graphkd.data.sources import ArraySource

RECIPE = Recipe(student="resnet20", epochs=1, batch=4, limit=8)


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return ArraySource(pixels.numpy(), [k % 100 for k in range(count)], [str(k) for k in range(100)])


@pytest.fixture
def untrained(monkeypatch, tmp_path):
    """A tower with fresh weights, and images of noise in the place of the data."""
    torch.manual_seed(0)
    made = tower.Tower(students.make("resnet20", 100, *CIFAR, maps=list(cifar.ALL)), torch.eye(100).repeat(1, 2)).eval()
    monkeypatch.setattr(tower, "load", lambda name, maps=None: made)
    monkeypatch.setattr(tower, "features", lambda name, kept: None)
    monkeypatch.setattr(tower, "unlabelled", lambda name, count: list(range(count)))
    monkeypatch.setattr(cifar.data, "cifar100", lambda part: images(12))
    monkeypatch.setattr(eikd.data, "photographs", lambda: images(12, seed=1).images)
    monkeypatch.setattr(eikd, "CHOSEN", 12)
    monkeypatch.setenv("GRAPHKD_STUDY_CACHE", str(tmp_path))
    eikd.cifar_pool.cache_clear()
    yield
    eikd.cifar_pool.cache_clear()


@pytest.mark.parametrize("which", ["known", "random", "selected", "selected globally"])
def test_of_a_pool_so_many_different_images_are_chosen_and_again_the_same(untrained, which):
    pool = eikd.cifar_pool()
    assert (len(pool.images), pool.known) == (24, 12)
    found = pool.chosen(which, 8, seed=1)
    assert len(set(found)) == len(found) == 8
    assert max(found) < (12 if which == "known" else 24)
    assert found == pool.chosen(which, 8, seed=1)


def test_features_in_memory_are_ranked_by_confidence_by_hand():
    texts = torch.eye(3)
    teacher = StoredTeacher(
        torch.tensor([[0.6, 0.8, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.8, 0.6, 0.0]]), texts, 1.0
    )
    scores = eikd.remembered(teacher, list("abcd"))
    assert scores.label.tolist() == [1, 0, 2, 0]
    assert math.exp(scores.log_confidence[1]) == pytest.approx(math.e / (math.e + 2))
    pool = eikd.Pool(images(4), 2, lambda: scores)
    assert pool.chosen("selected globally", 2, seed=0) == [1, 2]
    assert pool.chosen("selected", 3, seed=0) == [0, 1, 2]  # the best of each class
    assert pool.chosen("known", 3, seed=0) == [0, 1]


def test_a_pool_of_caltech_has_features_of_the_images_chosen(monkeypatch):
    torch.manual_seed(0)
    teacher = StoredTeacher(normalize(torch.randn(12, 8), dim=1), normalize(torch.randn(5, 8), dim=1))
    known = Split(images(6), replace(teacher, embedding=teacher.embedding[:6]))
    monkeypatch.setattr(eikd.data, "caltech", lambda: (known, known))
    monkeypatch.setattr(eikd.data, "caltech_pool", lambda: (Split(images(12), teacher), 6))
    monkeypatch.setattr(eikd, "caltech_pool", eikd.caltech_pool.__wrapped__)
    config = Config("caltech-eikd", "a", "eikd", 0, RECIPE, {}, "selected")
    problem, kept = eikd.caltech_problem(config), eikd.caltech_pool().chosen("selected", 6, seed=0)
    assert torch.equal(problem.teacher.embedding, teacher.embedding[kept])
    assert (problem.train.images == images(12).images[kept]).all()
    assert len(problem.scored) == 6


RUNNABLE = [each.label for each in (*eikd.METHODS, *eikd.MORE) if "auto_weights" not in each.options]  # gone since


@pytest.mark.parametrize("method", RUNNABLE)
def test_eikd_trains_without_a_label(untrained, method):
    row = next(each for each in (*eikd.METHODS, *eikd.MORE) if each.label == method)
    config = Config("eikd", row.label, row.name, 0, RECIPE, row.options, row.variant)
    problem = eikd.cifar_problem(config)
    assert len(problem.train) == 8
    assert step_of(config, problem).task is None
    if method in ("random images, KD", "selected, best 10, explicit + implicit, auto"):  # with most parts
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
