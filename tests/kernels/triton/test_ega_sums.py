"""EGA's two sums on kernels against the reference in float64."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing


@pytest.mark.parametrize("relation", ["gram", "pearson"])
@pytest.mark.parametrize("n", [97, 20], ids=["columns", "tiles"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_sums_under_different_upstream_gradients(relation, n, dtype, device):
    testing.check(
        lambda *x: OPERATIONS["ega_sums"](*x, relation),
        lambda *x: reference.ega_sums(*x, relation),
        [testing.rows(n, 17, seed=i, dtype=dtype) for i in range(2)],
        (True, True),
        device,
        5e-6 if dtype == torch.float32 else 1e-13,
    )
