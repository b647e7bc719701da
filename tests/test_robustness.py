"""Inputs that break reference losses: value finite, gradient finite and at most 1e4, in every precision."""

from collections.abc import Callable

import pytest
import torch

from graphkd.typing import Tensor
from tests.functional.losses import LOSSES

N, D = 32, 64
Pair = tuple[Tensor, Tensor]


def _normal(n: int = N, d: int = D) -> Pair:
    generator = torch.Generator().manual_seed(1)
    teacher = torch.randn(n, d, generator=generator)
    return torch.randn(n, d, generator=generator), teacher


def _changed(change: Callable[[Tensor], object], both: bool = False) -> Pair:
    student, teacher = _normal()
    change(student)
    if both:
        change(teacher)
    return student, teacher


def _scaled(factor: float, n: int = N) -> Pair:
    student, teacher = _normal(n)
    return factor * student, factor * teacher


CASES: dict[str, Callable[[], Pair]] = {
    "unit normal": _normal,
    "x 30": lambda: _scaled(30),
    "x 1000": lambda: _scaled(1000),
    "two equal student rows": lambda: _changed(lambda x: x[1].copy_(x[0])),
    "two equal rows in both": lambda: _changed(lambda x: x[1].copy_(x[0]), both=True),
    "one zero student row": lambda: _changed(lambda x: x[0].zero_()),
    "one constant student row": lambda: _changed(lambda x: x[0].fill_(0.3)),
    "zero row in both": lambda: _changed(lambda x: x[0].zero_(), both=True),
    "student all zero": lambda: _changed(lambda x: x.zero_()),
    "collapsed student": lambda: _changed(lambda x: x.copy_(x[:1].expand_as(x))),
    "collapsed both": lambda: _changed(lambda x: x.copy_(x[:1].expand_as(x)), both=True),
    "student equals teacher": lambda: (_normal()[1], _normal()[1]),
    "one sample": lambda: _normal(1),
    "two samples": lambda: _normal(2),
    "one sample among 1024 classes": lambda: _normal(1, 1024),
    "one sample x 30": lambda: _scaled(30, 1),
    "logit gap of 1000": lambda: _changed(lambda x: x[:, 3].add_(1000)),
    "dead features": lambda: _changed(lambda x: x[:, :16].zero_()),
}
PRECISIONS = [  # of the inputs, of autocast around the loss
    (torch.float32, None),
    (torch.float32, torch.float16),
    (torch.float16, None),
    (torch.float16, torch.float16),
    (torch.bfloat16, None),
    (torch.bfloat16, torch.bfloat16),
]
# The published loss is a fourth power of the features: its gradient at this scale is beyond 1e4, and beyond float16.
GROWS = ("fsp", "x 1000")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_finite(name: str, case: str) -> None:
    student, teacher = CASES[case]()
    target = torch.arange(len(student)) % 7
    for dtype, autocast in PRECISIONS:
        if (name, case) == GROWS and dtype == torch.float16:
            continue
        x = student.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            value = LOSSES[name](x, teacher.to(dtype), target)
        (gradient,) = torch.autograd.grad(value, x)
        where = f"{name}, {case}, {dtype}, autocast {autocast}"
        assert value.dtype == torch.float32, where
        assert value.isfinite(), where
        assert gradient.isfinite().all(), where
        assert gradient.abs().max() <= 1e4 or (name, case) == GROWS, f"{where}: {gradient.abs().max():.1e}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_that_of_the_inputs_alone(name: str, scale: int, dtype: torch.dtype) -> None:
    student, teacher = (x.to(dtype) for x in _scaled(scale, 8))
    target = torch.arange(8) % 7
    exact = LOSSES[name](student.double(), teacher.double(), target)
    torch.testing.assert_close(LOSSES[name](student, teacher, target).double(), exact, rtol=1e-3, atol=1e-6)


def test_count_of_cases(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = sum(dtype == torch.float16 for dtype, _ in PRECISIONS)  # of GROWS
    count = len(LOSSES) * len(CASES) * len(PRECISIONS) - skipped
    with capsys.disabled():
        print(f"\nrobustness: {len(LOSSES)} losses x {len(CASES)} inputs x {len(PRECISIONS)} precisions: {count} cases")
    assert count >= 200


def test_a_backward_pass_under_autocast_keeps_the_gradient_of_a_fused_loss() -> None:
    student, teacher = _normal()
    value = LOSSES["ega"](student.requires_grad_(), teacher, torch.arange(len(student)) % 7)
    (outside,) = torch.autograd.grad(value, student, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(torch.autograd.grad(value, student)[0], outside)
