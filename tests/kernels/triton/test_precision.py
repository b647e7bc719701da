"""What a kernel may lose: no digit by a switch of the process, no range before the upstream gradient."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing
from tests.kernels.rounding import rounded_products
from tests.kernels.triton.test_laws import CALLS, given


@pytest.mark.parametrize("operation", CALLS)
def test_no_product_is_rounded(operation, device):
    function, inputs = given(operation, device)
    needs = (True, operation != "knn")
    expected = testing.derive(function, inputs, needs)
    with rounded_products() as mode:
        found = testing.derive(function, inputs, needs)
    assert mode.count == 0
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("relation", ["gram", "euclidean"])
@pytest.mark.parametrize("n", [40, 97], ids=["tiles", "columns"])
def test_the_gradient_of_a_large_sum_is_multiplied_before_it_is_rounded(n, relation, device):
    """The gradient of the sum is beyond float16's range, that of the mean is not."""
    s, t = (6 * testing.rows(n, 33, seed=seed, dtype=torch.float16) for seed in range(2))
    testing.check(
        lambda s, t: OPERATIONS["edge_sum"](s, None, t, None, relation, "square") / n**2,
        lambda s, t: reference.edge_sum(s, None, t, None, relation, "square") / n**2,
        [s, t], (True, True), device, 6e-3,
    )  # fmt: skip


def test_compiled_a_small_gradient_is_multiplied_before_it_is_rounded(device):
    """A loss scale brings it into float16's range, where the gradient of the sum alone is not."""
    torch.compiler.reset()
    t = testing.rows(9, 2000, dtype=torch.float16).to(device)
    inputs = [testing.near(t, 2e-3), t]

    def scaled(function):
        return lambda s, t: 2.0**16 * function(s, t, 1.0).sum()

    compiled = torch.compile(scaled(OPERATIONS["row_kl"]), fullgraph=True, backend="aot_eager")
    testing.check(compiled, scaled(reference.row_kl), inputs, (True, False), device, 2e-3)
