"""Class dropping: equal to KD where nothing is dropped, exact zeros where something is, finite at every edge."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.eikd.class_dropping import (
    CLASS_DROPPINGS,
    AllClasses,
    DatasetClasses,
    Mass,
    RandomClasses,
    TeacherOnly,
    TopK,
    TopKOnce,
    top_class_indices,
)
from graphkd.errors import MissingFeatureError, OptionError, ShapeError
from graphkd.functional import class_dropped_kd, mass_classes, top_classes

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "relational.json").read_text())
ROWS = torch.arange(8)


def golden_logits():
    draw = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(8, 16, generator=draw, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher


@pytest.mark.parametrize(
    "part", [AllClasses(), TopK(16), TopK(99), Mass(share=1.0), Mass(floor=0.0), RandomClasses(0.0), TeacherOnly(16)]
)
def test_nothing_dropped_is_plain_kd_at_temperature_4(part):
    student, teacher = golden_logits()
    golden = GOLDEN["methods"]["repdistiller.kd_T4"]["cases"]["seed0_N8_D16"]
    loss = part(student, teacher, 4.0, ROWS).losses.mean()
    loss.backward()
    assert_close(loss.item(), golden["value"], rtol=1e-9, atol=0)
    assert_close(student.grad.norm().item(), golden["grad_norm"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("part", [TopK(3), Mass(share=0.6), Mass(floor=0.05), RandomClasses(0.5)])
def test_dropped_classes_get_a_gradient_of_exactly_zero(part):
    student, teacher = golden_logits()
    kept = part.kept(teacher, ROWS)
    part(student, teacher, 4.0, ROWS).losses.sum().backward()
    assert 8 < kept.sum() < kept.numel()
    assert (student.grad[~kept] == 0).all()
    assert (student.grad[kept] != 0).any()


def test_teacher_only_moves_the_students_dropped_classes_too():
    student, teacher = golden_logits()
    part = TeacherOnly(3)
    part(student, teacher, 4.0, ROWS).losses.sum().backward()
    assert (student.grad[~part.kept(teacher, ROWS)] > 0).all()  # pushed down


def test_gathered_top_classes_equal_the_masked_form():
    student, teacher = golden_logits()
    gathered = TopK(5)(student, teacher, 4.0, ROWS).losses.mean()
    masked = class_dropped_kd(student, teacher, top_classes(teacher, 5), 4.0)
    assert_close(gathered, masked, rtol=1e-12, atol=0)
    once = TopKOnce(top_class_indices(teacher, 5))
    assert_close(once(student, torch.randn_like(teacher), 4.0, ROWS).classes, torch.full((8,), 5))
    assert_close(once(student, teacher, 4.0, ROWS).losses.mean(), gathered, rtol=1e-12, atol=0)


def test_two_of_three_classes_by_hand():
    teacher, student = torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([[0.0, 0.0, 50.0]])
    p = torch.sigmoid(torch.tensor(9.0))  # of classes 0 and 1; the tie of 0 and 2 goes to class 0
    expected = p * torch.log(2 * p) + (1 - p) * torch.log(2 * (1 - p))
    assert_close(TopK(2)(student, teacher, 1.0, ROWS[:1]).losses[0], expected)


def test_equal_logits_are_ranked_by_class():
    teacher = torch.zeros(2, 5)
    assert top_class_indices(teacher, 3).tolist() == [[0, 1, 2]] * 2
    for part in (TopK(1), Mass(floor=0.9), RandomClasses(1.0), TeacherOnly(1), Mass(share=0.01)):
        assert part.kept(teacher, ROWS[:2]).tolist() == [[True, False, False, False, False]] * 2


def test_mass_keeps_the_smallest_set_that_reaches_the_share():
    teacher = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()
    assert Mass(share=0.79, temperature=1.0).kept(teacher, ROWS[:1]).sum() == 2
    assert Mass(share=0.81, temperature=1.0).kept(teacher, ROWS[:1]).sum() == 3
    assert Mass(floor=0.1, temperature=1.0).kept(teacher, ROWS[:1]).sum() == 3
    assert Mass(floor=0.99).kept(teacher, ROWS[:1]).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_mass_by_name_has_the_temperature_of_the_kd_term(temperature):
    teacher = 6 * golden_logits()[1]
    named = CLASS_DROPPINGS.get("mass")(16, temperature)
    assert torch.equal(named.kept(teacher, ROWS), mass_classes(teacher, 0.95, temperature))
    assert torch.equal(Mass(share=0.95).kept(teacher, ROWS), mass_classes(teacher, 0.95, 4.0))
    assert Mass(share=0.95, temperature=1.0).kept(teacher, ROWS).sum() < Mass(share=0.95).kept(teacher, ROWS).sum()


def test_a_sample_of_a_dropped_class_leaves_the_loss_and_an_empty_batch_is_zero_with_a_graph():
    student, teacher = golden_logits()
    best = teacher.argmax(-1)
    keep = torch.ones(16, dtype=torch.bool)
    keep[best[0]] = False
    found = DatasetClasses(keep)(student, teacher, 4.0, ROWS)
    assert_close(found.counted, (best != best[0]).double())
    assert (found.losses[best == best[0]] == 0).all()
    nothing = DatasetClasses(torch.zeros(16, dtype=torch.bool))(student, teacher, 4.0, ROWS)
    nothing.losses.sum().backward()
    assert nothing.counted.sum() == 0
    assert (student.grad == 0).all()


def test_random_classes_depend_on_sample_step_and_seed_only():
    teacher = torch.randn(64, 50)
    rows = torch.arange(64)
    part = RandomClasses(0.3, seed=5)
    first = part.kept(teacher, rows)
    assert torch.equal(first, RandomClasses(0.3, seed=5).kept(teacher, rows))
    order = torch.randperm(64)
    assert torch.equal(first[order], part.kept(teacher[order], rows[order]))
    assert not torch.equal(first, RandomClasses(0.3, seed=6).kept(teacher, rows))
    assert abs(first.float().mean() - 0.7) < 0.03
    assert abs(torch.corrcoef(first.float().T).nan_to_num().fill_diagonal_(0).mean()) < 0.05
    part.advance()
    second = part.kept(teacher, rows)
    assert 0.35 < (first != second).float().mean() < 0.49  # independent: 2 * 0.3 * 0.7
    resumed = RandomClasses(0.3, seed=5)
    resumed.load_state_dict(part.state_dict())
    assert torch.equal(second, resumed.kept(teacher, rows))


def test_random_classes_compile_without_a_break():
    part = RandomClasses(0.5)
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    compiled = torch.compile(part, backend="aot_eager", fullgraph=True)
    assert_close(compiled(student, teacher, 4.0, ROWS[:4]), part(student, teacher, 4.0, ROWS[:4]))


@pytest.mark.parametrize(
    "part", [TopK(2), TopK(1), Mass(share=0.9), Mass(floor=0.5), RandomClasses(1.0), TeacherOnly(1), AllClasses()]
)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_losses_and_gradients_are_finite(part, scale):
    student, teacher = (scale * torch.randn(8, 5)).requires_grad_(), scale * torch.randn(8, 5)
    found = part(student, teacher, 4.0, ROWS)
    found.losses.sum().backward()
    assert torch.isfinite(found.losses).all()
    assert torch.isfinite(student.grad).all()
    assert (found.classes >= 1).all()
    assert (found.losses >= -1e-5).all()


def test_one_kept_class_has_no_loss():
    student, teacher = golden_logits()
    assert (TopK(1)(student, teacher, 4.0, ROWS).losses == 0).all()


def test_bad_options_are_refused():
    for make in (lambda: TopK(0), lambda: TeacherOnly(0), lambda: top_class_indices(torch.zeros(1, 2), 0)):
        with pytest.raises(OptionError, match="at least 1 class is kept, k = 0"):
            make()
    with pytest.raises(OptionError, match="either share=... or floor="):
        Mass()
    with pytest.raises(OptionError, match=r"share is in \(0, 1\]"):
        Mass(share=1.5)
    with pytest.raises(OptionError, match="rate of dropping"):
        RandomClasses(-0.1)
    with pytest.raises(ShapeError, match="class indices"):
        TopKOnce(torch.zeros(3))
    with pytest.raises(MissingFeatureError, match="trusted_classes"):
        CLASS_DROPPINGS.get("dataset")(10, 4.0)
