"""What holds for every loss: gradcheck, a constant teacher, zero at the teacher, the order of samples, the dtype."""

import pytest
import torch
from torch.autograd import gradcheck

from tests.functional.losses import LOSSES, NOT_ZERO_AT_TEACHER, ORDERED

N = 5


def _inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(N, 16, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return student.requires_grad_(), teacher, torch.arange(N)


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


@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_student_gives_a_constant(name):
    student, teacher, target = _inputs()
    assert not LOSSES[name](student.detach(), teacher.requires_grad_(), target).requires_grad


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
def test_a_nan_is_never_hidden(name):
    student, teacher, target = _inputs()
    with torch.no_grad():
        student[0] = float("nan")
    assert LOSSES[name](student, teacher, target).isnan()


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.startswith("class_dropped")])
@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_integers_and_complex_numbers_are_refused(name, kind):
    student, teacher, target = _inputs()
    with pytest.raises(ValueError, match=r"real floating point was expected: call \.float\(\) on it"):
        LOSSES[name](student.detach().to(kind), teacher.to(kind), target)


def test_mixed_precision_is_computed_in_the_wider():
    student, teacher, target = _inputs()
    assert LOSSES["kd"](student.half(), teacher.double(), target).dtype == torch.float64
    assert LOSSES["kd"](student.half(), teacher.bfloat16(), target).dtype == torch.float32
