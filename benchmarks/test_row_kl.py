"""pytest benchmarks/test_row_kl.py --benchmark-only: divergence of softmax rows, forward and backward."""

import pytest
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

from benchmarks.conftest import FORMS, random
from graphkd import ops

SHAPES = [pytest.param(256, 100, marks=pytest.mark.quick), (2048, 1000)]


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows at temperature 4, times its square."""
    return 16 * ops.row_kl(student, teacher, 4.0).mean()


def official(student: Tensor, teacher: Tensor) -> Tensor:
    """As in Hinton's distillation and the code that followed it."""
    return 16 * kl_div(log_softmax(student / 4, 1), softmax(teacher / 4, 1), reduction="batchmean")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "c"), SHAPES)
def test_row_kl(race, form, n, c):
    race(f"row_kl-{n}x{c}", form, ours, official, 3 * random(n, c), 3 * random(n, c, seed=1))
