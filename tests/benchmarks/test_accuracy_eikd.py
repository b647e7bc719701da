"""The bucket of dropped classes by hand, and a pool of TinyImageNet of which the teacher knows half of the classes."""

from math import log

import numpy as np
import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from benchmarks.accuracy import eikd_more
from benchmarks.accuracy.candidates import create
from benchmarks.accuracy.config import Config, Recipe
from benchmarks.accuracy.data import KeptTeacher
from benchmarks.accuracy.eikd import Pool
from benchmarks.accuracy.eikd_more import rest_bucket
from benchmarks.accuracy.study import run
from graphkd import Features, functional
from graphkd.data.pool import PoolScores
from graphkd.data.sources import ArraySource

RECIPE = Recipe(student="thin_resnet", epochs=1, batch=4)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_bucket_has_the_probability_of_all_dropped_classes_by_hand(temperature):
    teacher = temperature * tensor([[0.3, 0.5, 0.2]], dtype=torch.float64).log()
    student, said = rest_bucket(torch.zeros_like(teacher), teacher, 1, temperature)
    assert_close((said / temperature).softmax(1), tensor([[0.5, 0.5]], dtype=torch.float64))
    assert_close((student / temperature).softmax(1), tensor([[1 / 3, 2 / 3]], dtype=torch.float64))
    loss = functional.kd(student, said, temperature)
    assert loss.item() == pytest.approx(temperature**2 * (0.5 * log(0.5 * 3) + 0.5 * log(0.5 * 3 / 2)))


def test_a_bucket_of_one_class_is_plain_kd():
    student, teacher = random(4, 5), random(4, 5, seed=1)
    for kept in (4, 5, 100):
        assert_close(
            functional.kd(*rest_bucket(student, teacher, kept, 4.0), 4.0), functional.kd(student, teacher, 4.0)
        )


def test_dropped_classes_are_pushed_together():
    student, teacher = random(4, 5).requires_grad_(), random(4, 5, seed=1)
    functional.kd(*rest_bucket(student, teacher, 2, 1.0), 1.0).backward()
    dropped = ~functional.top_classes(teacher, 2)
    share = student.detach().softmax(1) * dropped  # within the bucket a class is pushed as likely as it is
    pushed = student.grad * dropped
    assert_close(pushed, pushed.sum(1, keepdim=True) * share / share.sum(1, keepdim=True))
    assert pushed.abs().sum(1).min() > 1e-3


def test_the_bucket_takes_the_place_of_the_classes_in_eikd():
    student, teacher = (Features(random(4, width).float(), random(4, 6, seed=width).float()) for width in (3, 5))
    loss = create("eikd_rest", student, teacher, kept=2)(student, teacher)
    assert set(loss) == {"eikd/kd", "eikd/explicit", "eikd/implicit"}
    joined = rest_bucket(student.logits, teacher.logits, 2, 4.0)
    assert_close(loss["eikd/kd"], functional.kd(*joined, 4.0))
    same = create("eikd_rest", teacher, teacher, kept=2)(teacher, teacher)
    assert max(same.values()).abs() < 1e-5


CHOSEN = {
    "selected": [0, 2],  # the surest of each class
    "selected globally": [0, 2],
    "selected by entropy": [1, 3],
    "selected without attractors": [0, 2],
    "selected without more attractors": [0, 1],  # the second class has a mean confidence of 0.5
}


@pytest.mark.parametrize(("which", "chosen"), CHOSEN.items())
def test_images_of_a_pool_by_hand(which, chosen):
    confidence = np.log([0.9, 0.3, 0.55, 0.45])
    entropy = np.array([0.5, 0.1, 0.9, 0.2])
    scores = PoolScores(np.array([0, 0, 1, 1]), confidence, confidence, entropy, list("abcd"), 2, None)
    pool = Pool(ArraySource(np.zeros((4, 8, 8, 3), np.uint8)), 2, lambda: scores)
    assert pool.chosen(which, 2, seed=0) == chosen
    assert pool.chosen("selected above a floor", 1, seed=0) == [0]


@pytest.fixture
def tin100(monkeypatch):
    """Twelve images of noise, of four classes, of which the teacher of the pool knows the second and the last."""
    pixels = torch.randint(256, (12, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    said = Features(random(12, 8).float(), random(12, 4).float(), random(4, 8).float())
    monkeypatch.setattr(eikd_more, "TASK", [1, 3])
    monkeypatch.setattr(eikd_more, "CHOSEN", 6)
    source = ArraySource(pixels.numpy(), [k % 4 for k in range(12)], list("abcd"))
    monkeypatch.setattr(eikd_more.data, "tin100", lambda part: source)
    monkeypatch.setattr(eikd_more.tin100, "teacher", lambda part: KeptTeacher(said))
    monkeypatch.setattr(eikd_more, "tin100_pool", eikd_more.tin100_pool.__wrapped__)
    return source, said


def test_the_pools_teacher_knows_its_own_classes_alone(tin100):
    (source, said), (pool, teacher) = tin100, eikd_more.tin100_pool()
    assert (len(pool.images), pool.known, teacher.num_classes) == (12, 6, 2)
    assert [pool.images.target(index) in (1, 3) for index in range(12)] == [True] * 6 + [False] * 6
    order = [(source.images == image).all((1, 2, 3)).argmax() for image in pool.images.images]
    assert sorted(order) == list(range(12))
    assert torch.equal(teacher.features.logits, said.logits[order][:, [1, 3]])
    assert torch.equal(teacher.features.embedding, said.embedding[order])
    assert pool.chosen("known", 6, seed=0) == list(range(6))


def test_students_of_the_pool_are_scored_on_the_task(tin100):
    row = next(each for each in eikd_more.METHODS if each.name == "eikd_rest" and "explicit" in each.label)
    config = Config("tin100-eikd", row.label, row.name, 0, RECIPE, row.options, row.variant)
    problem = eikd_more.tin100_problem(config)
    assert [problem.scored.target(index) for index in range(6)] == [0, 1] * 3
    pool, teacher = eikd_more.tin100_pool()
    kept = pool.chosen("selected", 6, seed=0)
    assert (problem.train.images == pool.images.images[kept]).all()
    assert torch.equal(problem.teacher.features.embedding, teacher.features.embedding[kept])
    assert set(run(config, problem)["shares"]) == {"eikd/kd", "eikd/explicit", "eikd/implicit"}
