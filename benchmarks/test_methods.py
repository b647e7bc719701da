"""pytest benchmarks/test_methods.py --benchmark-only: every distiller, from features to their gradient."""

import pytest

from benchmarks.conftest import cells


@pytest.mark.parametrize(("case", "shape", "form"), cells("method"))
def test_method(fill, case, shape, form):
    fill(case, shape, form)
