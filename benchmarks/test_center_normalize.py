"""pytest benchmarks/test_center_normalize.py --benchmark-only: rows centred and scaled, forward and backward."""

import pytest
from torch import Tensor

from benchmarks.conftest import FORMS, random
from graphkd import ops

SHAPES = [pytest.param(256, 512, marks=pytest.mark.quick), (8192, 512)]


def official(x: Tensor) -> Tensor:
    """As published: no care for constant rows."""
    centered = x - x.mean(1, keepdim=True)
    return centered / centered.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_center_normalize(race, form, n, d):
    weight = random(n, d, seed=1)  # the plain sum of centred rows is 0
    race(
        f"center_normalize-{n}x{d}",
        form,
        lambda x: ops.center_normalize(x) * weight.to(x),
        lambda x: official(x) * weight.to(x),
        random(n, d),
    )
