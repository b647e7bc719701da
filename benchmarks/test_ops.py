"""pytest benchmarks/test_ops.py --benchmark-only: every operation of ``graphkd.ops``, forward and gradient."""

import pytest

from benchmarks.conftest import cells


@pytest.mark.parametrize(("case", "shape", "form"), cells("op"))
def test_operation(fill, case, shape, form):
    fill(case, shape, form)
