"""What holds for every loss: gradcheck, a constant teacher, zero at the teacher, the order of samples, the dtype."""

import pytest
import torch
from torch.autograd import gradcheck

from graphkd import backend
from graphkd import functional as F
from tests.functional.losses import LOSSES, NOT_ZERO_AT_TEACHER, OF_LOGITS, ORDERED, two_maps

N = 5
LOGITS = {  # where the function compares features as well, only the logits are masked
    "irg": lambda z_s, z_t, y: F.irg(*FEATURES, two_maps(FEATURES[0]), two_maps(FEATURES[1]), z_s, z_t),
    "prg_node": lambda z_s, z_t, y: F.prg_node(*FEATURES, z_s, z_t),
    "prg_node_identity": lambda z_s, z_t, y: F.prg_node(*FEATURES, z_s, z_t, target="identity"),
    "prg_node_teacher_gram": lambda z_s, z_t, y: F.prg_node(*FEATURES, z_s, z_t, target="teacher_gram"),
    "prg_edge": lambda z_s, z_t, y: F.prg_edge(*FEATURES, *(x[:2] for x in FEATURES), z_s, z_t, z_s[:2], z_t[:2]),
}


def _inputs(dtype=torch.float64, seed=3):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(N, 16, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return student.requires_grad_(), teacher, torch.arange(N)


FEATURES = tuple(each.detach() for each in _inputs(seed=4)[:2])


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_that_of_the_value(name):
    student, teacher, target = _inputs()
    assert gradcheck(lambda x: LOSSES[name](x, teacher, target), student)


@pytest.mark.parametrize("name", LOSSES)
def test_teacher_gets_no_gradient(name):
    student, teacher, target = _inputs()
    teacher.requires_grad_()
    LOSSES[name](student, teacher, target).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("name", sorted(set(LOSSES) - NOT_ZERO_AT_TEACHER))
def test_zero_when_student_equals_teacher(name):
    _, teacher, target = _inputs()
    student = teacher.clone().requires_grad_()
    value = LOSSES[name](student, teacher, target)
    (gradient,) = torch.autograd.grad(value, student)
    assert abs(value.item()) < (1e-3 if name.startswith("dist") else 1e-6)  # DIST adds 1e-8 to small denominators
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - ORDERED))
def test_order_of_samples_does_not_matter(name):
    student, teacher, target = _inputs()
    order = torch.tensor([3, 0, 4, 1, 2])
    value, shuffled = (
        LOSSES[name](student, teacher, target),
        LOSSES[name](student[order], teacher[order], target[order]),
    )
    torch.testing.assert_close(value, shuffled, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("side", [0, 1])
def test_a_nan_is_never_hidden(name, side):
    inputs = _inputs()
    with torch.no_grad():
        inputs[side][0] = float("nan")
    assert LOSSES[name](*inputs).isnan()


@pytest.mark.parametrize("name", LOSSES)
def test_a_teacher_of_inference_mode_is_one_as_any(name):
    student, teacher, target = _inputs()
    with torch.inference_mode():
        seen, labels = teacher + 0, target + 0
    values = LOSSES[name](student, seen, labels), LOSSES[name](student, teacher, target)
    gradients = [torch.autograd.grad(value, student)[0] for value in values]
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=0)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize("of_student", [False, True])
@pytest.mark.parametrize("kernels", ["eager", "blocked"])
def test_classes_masked_by_minus_infinity_give_finite_values_and_gradients(name, of_student, kernels):
    student, teacher, target = _inputs()
    masked = torch.zeros(N, 16, dtype=torch.bool)
    masked[:, 7] = masked[0, 9] = True  # a class of all samples, one of a single sample
    student = student.detach().masked_fill(masked & of_student, -torch.inf).requires_grad_()
    with backend(kernels):
        value = LOGITS.get(name, LOSSES[name])(student, teacher.masked_fill(masked, -torch.inf), target)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_a_masked_class_leaves_the_kl_of_the_others():
    student, teacher, target = _inputs()
    some = torch.arange(16) != 7
    masked = (each.masked_fill(~some, -torch.inf) for each in (student, teacher))
    torch.testing.assert_close(F.kd(*masked), F.kd(student[:, some], teacher[:, some]))
    masked = (each.masked_fill(~some, -torch.inf) for each in (student, teacher))
    torch.testing.assert_close(F.dkd(*masked, target), F.dkd(student[:, some], teacher[:, some], target))


def test_dkd_of_a_sample_with_a_single_class_left_is_zero():
    student, teacher, target = _inputs()
    alone = torch.arange(16) == target.unsqueeze(1)
    student = student.detach().masked_fill(~alone, -torch.inf).requires_grad_()
    value = F.dkd(student, teacher.masked_fill(~alone, -torch.inf), target)
    (gradient,) = torch.autograd.grad(value, student)
    assert value == 0
    assert (gradient == 0).all()


def test_mixed_precision_is_computed_in_the_wider():
    student, teacher, target = _inputs()
    assert LOSSES["kd"](student.half(), teacher.double(), target).dtype == torch.float64
    assert LOSSES["kd"](student.half(), teacher.bfloat16(), target).dtype == torch.float32
