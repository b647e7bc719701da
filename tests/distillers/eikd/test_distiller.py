"""EIKD: the invariants of its specification, every option, the hazards, and which classes and labels it learns from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.eikd.class_dropping import AllClasses, DatasetClasses, TopK
from graphkd.distillers.eikd.distiller import EXPLICIT, RELATIONS, EIKDDistiller
from graphkd.distillers.eikd.noise_matrix import NoiseMatrix
from graphkd.errors import UnknownNameError
from graphkd.features import Features
from graphkd.functional import class_dropped_kd, explicit_features, implicit_relations, kd, top_classes

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "relational.json").read_text())
EVERY = DatasetClasses(torch.ones(16, dtype=torch.bool))


def features(n=6, d=5, c=12, *, grad=False, dtype=torch.float64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = (n, d), (n, c)
    embedding, logits = (torch.randn(*each, generator=draw, dtype=dtype).requires_grad_(grad) for each in shapes)
    return Features(embedding=embedding, logits=logits)


def pair(**options):
    return features(grad=True, **options), features(d=7, seed=1, **options)


def test_terms_are_the_published_functions():
    student, teacher = features(grad=True), features(seed=1)
    losses = EIKDDistiller(5, 5, 12, drop=TopK(3), explicit="features")(student, teacher)
    kept = top_classes(teacher.logits, 3)
    assert_close(losses["eikd/kd"], class_dropped_kd(student.logits, teacher.logits, kept, 4.0))
    assert_close(losses["eikd/explicit"], explicit_features(student.embedding, teacher.embedding))
    assert_close(losses["eikd/implicit"], implicit_relations(student.embedding, teacher.embedding))


def test_the_default_keeps_every_class_and_compares_directions():
    student, teacher = features(grad=True), features(seed=1)
    losses = EIKDDistiller(5, 5, 12)(student, teacher)
    unit = torch.nn.functional.normalize
    assert_close(losses["eikd/kd"], kd(student.logits, teacher.logits, 4.0))
    assert_close(losses["eikd/explicit"], explicit_features(unit(student.embedding), unit(teacher.embedding)))
    longer = replace(student, embedding=100 * student.embedding)
    assert_close(EIKDDistiller(5, 5, 12)(longer, teacher), losses)


def test_the_first_reading_is_a_preset_and_what_is_given_goes_before_it():
    student, teacher = features(), features(seed=1)
    literal = EIKDDistiller(5, 5, 12, preset="literal")(student, teacher)
    written = {"drop": TopK(10), "explicit": "features", "relation": "cosine_mean"}
    written |= {"explicit_weight": 1.0, "implicit_weight": 1.0}
    assert_close(literal, EIKDDistiller(5, 5, 12, **written)(student, teacher))
    assert_close(6 * literal["eikd/implicit"], EIKDDistiller(5, 5, 12)(student, teacher)["eikd/implicit"])
    assert set(EIKDDistiller(5, 5, 12, preset="literal", explicit_weight=0.0).terms) == {"kd", "implicit"}
    with pytest.raises(UnknownNameError, match="literal, stable"):
        EIKDDistiller(5, 5, 12, preset="litteral")


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("explicit", EXPLICIT)
def test_every_option_trains_the_student_only_and_needs_no_label(relation, explicit):
    student, teacher = pair()
    teacher = teacher.map_tensors(lambda value: value.requires_grad_())
    eikd = EIKDDistiller.between(student, teacher, relation=relation, explicit=explicit).double()
    eikd(student, teacher).total.backward()
    assert student.embedding.grad.abs().sum() > 0
    assert student.logits.grad.abs().sum() > 0
    assert all(value.grad is None for value in teacher.tensors())


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("hazard", ["zero", "duplicates", "collapsed", "one", "two", "large"])
def test_degenerate_batches_give_finite_values_and_gradients(relation, dtype, hazard):
    n = {"one": 1, "two": 2}.get(hazard, 6)
    changes = {
        "zero": lambda x: x * 0,
        "duplicates": lambda x: x[[0, 0, 1, 1, 2, 2]],
        "collapsed": lambda x: x[:1].expand_as(x),
        "large": lambda x: x * 1000,
    }
    change = changes.get(hazard, lambda x: x)
    student, teacher = (features(n, seed=seed, dtype=dtype).map_tensors(lambda x: change(x).clone()) for seed in (0, 1))
    student = student.map_tensors(lambda x: x.requires_grad_())
    losses = EIKDDistiller(5, 5, 12, relation=relation, drop=TopK(2))(student, teacher)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    for leaf in (student.embedding, student.logits):
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


def test_gradcheck_of_the_default():
    teacher = features(4, 3, 5, seed=1)
    eikd = EIKDDistiller(3, 3, 5, drop=TopK(3)).eval()

    def total(embedding, logits):
        return eikd(Features(embedding=embedding, logits=logits), teacher).total

    student = features(4, 3, 5, grad=True)
    assert torch.autograd.gradcheck(total, (student.embedding, student.logits))


def test_weight_zero_removes_the_term_and_its_projector():
    assert list(EIKDDistiller(5, 7, 12, explicit_weight=0.0).parameters()) == []
    assert set(EIKDDistiller(5, 7, 12, explicit_weight=0.0).terms) == {"kd", "implicit"}
    student = features()
    assert EIKDDistiller(5, 5, 12, implicit_weight=0.0, explicit_weight=0.0)(student, student).keys() == {"eikd/kd"}


def test_labels_by_cross_entropy_and_by_noise_matrix():
    student, teacher = features(grad=True), features(seed=1)
    label = teacher.logits.argmax(-1)
    plain = EIKDDistiller(5, 5, 12, label_weight=1.0)(student, teacher)["eikd/label"]
    assert_close(plain, torch.nn.functional.cross_entropy(student.logits, label))
    noise = NoiseMatrix(12, accuracy=0.9)
    assert_close(noise.matrix().sum(-1), torch.ones(12))
    assert_close(noise.matrix().diagonal(), torch.full((12,), 0.9))
    loss = EIKDDistiller(5, 5, 12, label_weight=1.0, labels=noise)(student, teacher)["eikd/label"]
    q = torch.full((12, 12), 0.1 / 11, dtype=torch.float64).fill_diagonal_(0.9)
    assert_close(loss, torch.nn.functional.nll_loss((student.logits.softmax(-1) @ q).log(), label), rtol=1e-6, atol=0)
    loss.backward()
    assert noise.weight.grad.abs().sum() > 0
    assert (noise.weight.grad.diagonal() == 0).all()
    assert not list(EIKDDistiller(5, 5, 12, labels=NoiseMatrix(12, 0.9)).parameters())  # no weight, no parameter


def test_a_batch_whose_classes_are_all_dropped_is_zero_with_a_graph():
    student, teacher = pair()
    eikd = EIKDDistiller(5, 7, 12, drop=DatasetClasses(torch.zeros(12, dtype=torch.bool)), implicit_weight=0.0).double()
    losses = eikd(student, teacher)
    losses.total.backward()
    assert losses["eikd/kd"] == 0
    assert (student.logits.grad == 0).all()
    one = EIKDDistiller(5, 7, 12, drop=TopK(1)).double()
    assert one(student, teacher)["eikd/kd"] == 0


def golden_logits():
    draw = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(8, 16, generator=draw, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher


@pytest.mark.parametrize("part", [AllClasses(), TopK(16), TopK(99), EVERY])
def test_nothing_dropped_is_plain_kd_at_temperature_4(part):
    student, teacher = golden_logits()
    golden = GOLDEN["methods"]["repdistiller.kd_T4"]["cases"]["seed0_N8_D16"]
    loss = class_dropped_kd(student, teacher, part(teacher), 4.0)
    loss.backward()
    assert_close(loss.item(), golden["value"], rtol=1e-9, atol=0)
    assert_close(student.grad.norm().item(), golden["grad_norm"], rtol=1e-9, atol=0)


def test_two_of_three_classes_by_hand():
    teacher, student = torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([[0.0, 0.0, 50.0]])
    p = torch.sigmoid(torch.tensor(9.0))  # of classes 0 and 1; the tie of 0 and 2 goes to class 0
    expected = p * torch.log(2 * p) + (1 - p) * torch.log(2 * (1 - p))
    assert_close(class_dropped_kd(student, teacher, TopK(2)(teacher), 1.0), expected)
