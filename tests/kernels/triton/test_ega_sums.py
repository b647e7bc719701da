"""EGA's two sums on kernels against the reference in float64."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing


@pytest.mark.parametrize("relation", ["gram", "pearson"])
@pytest.mark.parametrize("n", [97, 20], ids=["columns", "tiles"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_both_sums_under_different_upstream_gradients(relation, n, dtype, needs, device, monkeypatch):
    monkeypatch.setattr("graphkd_kernels._triton.ega_sums.FEW", 0)
    testing.check(
        lambda *x: OPERATIONS["ega_sums"](*x, relation),
        lambda *x: reference.ega_sums(*x, relation),
        [testing.rows(n, 17, seed=i, dtype=dtype) for i in range(2)],
        needs,
        device,
        5e-6 if dtype == torch.float32 else 1e-13,
    )


@pytest.mark.parametrize("shape", [(1, 5), (20, 33), (63, 100), (0, 5)])
def test_few_nodes_go_by_columns_too(shape, device):
    testing.check(
        lambda *x: OPERATIONS["ega_sums"](*x, "cosine"),
        lambda *x: reference.ega_sums(*x, "cosine"),
        [testing.rows(*shape, seed=i) for i in range(2)],
        (True, False),
        device,
        5e-6,
    )
