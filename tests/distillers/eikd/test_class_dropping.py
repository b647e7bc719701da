"""Class dropping: equal to KD where nothing is dropped, exact zeros where something is, finite at every edge."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.eikd.class_dropping import CLASS_DROPPINGS, AllClasses, DatasetClasses, TopK
from graphkd.errors import MissingFeatureError, OptionError
from graphkd.functional import class_dropped_kd, top_classes
from graphkd.ops import row_kl

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "relational.json").read_text())
EVERY = DatasetClasses(torch.ones(16, dtype=torch.bool))


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


def test_dropped_classes_get_a_gradient_of_exactly_zero():
    student, teacher = golden_logits()
    kept = TopK(3)(teacher)
    class_dropped_kd(student, teacher, kept, 4.0).backward()
    assert kept.sum() == 24
    assert (student.grad[~kept] == 0).all()
    assert (student.grad[kept] != 0).any()


def test_the_masked_form_equals_the_gathered_classes():
    student, teacher = golden_logits()
    best = teacher.argsort(dim=-1, descending=True, stable=True)[:, :5]
    gathered = 16 * row_kl(student.gather(1, best), teacher.gather(1, best), 4.0).mean()
    assert_close(class_dropped_kd(student, teacher, TopK(5)(teacher), 4.0), gathered, rtol=1e-12, atol=0)


def test_two_of_three_classes_by_hand():
    teacher, student = torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([[0.0, 0.0, 50.0]])
    p = torch.sigmoid(torch.tensor(9.0))  # of classes 0 and 1; the tie of 0 and 2 goes to class 0
    expected = p * torch.log(2 * p) + (1 - p) * torch.log(2 * (1 - p))
    assert_close(class_dropped_kd(student, teacher, TopK(2)(teacher), 1.0), expected)


def test_a_sample_of_a_dropped_class_leaves_the_loss_and_an_empty_batch_is_zero_with_a_graph():
    student, teacher = golden_logits()
    best = teacher.argmax(-1)
    keep = torch.ones(16, dtype=torch.bool)
    keep[best[0]] = False
    kept = DatasetClasses(keep)(teacher)
    assert torch.equal(kept.any(-1), best != best[0])
    rest = best != best[0]
    some = class_dropped_kd(student[rest], teacher[rest], kept[rest], 4.0)
    assert_close(class_dropped_kd(student, teacher, kept, 4.0), some)
    nothing = class_dropped_kd(student, teacher, DatasetClasses(torch.zeros(16, dtype=torch.bool))(teacher), 4.0)
    nothing.backward()
    assert nothing == 0
    assert (student.grad == 0).all()


@pytest.mark.parametrize("part", [TopK(2), TopK(1), AllClasses()])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_losses_and_gradients_are_finite(part, scale):
    student, teacher = (scale * torch.randn(8, 5)).requires_grad_(), scale * torch.randn(8, 5)
    kept = part(teacher)
    loss = class_dropped_kd(student, teacher, kept, 4.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert (kept.sum(-1) >= 1).all()
    assert loss >= -1e-5


def test_one_kept_class_has_no_loss():
    student, teacher = golden_logits()
    assert class_dropped_kd(student, teacher, top_classes(teacher, 1), 4.0) == 0


def test_bad_options_are_refused():
    with pytest.raises(OptionError, match="at least 1 class is kept, k = 0"):
        TopK(0)
    with pytest.raises(MissingFeatureError, match="trusted_classes"):
        CLASS_DROPPINGS.get("dataset")(10)
