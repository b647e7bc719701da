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


@pytest.mark.parametrize("relation", ["gram", "cosine", "pearson"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("m", [None, 40])
def test_matrices_of_16_bit_rows(relation, dtype, m, device):
    """Values to float32's digits; gradients but for their last rounding."""
    x = testing.with_zero_row(testing.rows(2, 70, 33, dtype=dtype))
    inputs = [x] if m is None else [testing.transposed(x), testing.rows(2, m, 33, seed=1, dtype=dtype)]

    def call(table):
        return lambda x, y=None: table["similarity"](x, y, relation)

    oracle = call(vars(reference))
    testing.check(call(OPERATIONS), oracle, inputs, (True,) * len(inputs), device, 2.5e-3)
    testing.check(
        call(OPERATIONS), oracle, inputs, (False,) * len(inputs), device, 2e-7 if relation == "gram" else 5e-6
    )


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3])
def test_distances_of_close_rows_keep_their_digits(gap, device):
    """As exact as blocked: two tight tiles beside each other, one set with itself or two sets, far from the origin."""
    x = testing.rows(70, 9) + 10
    x[35:] = (x[:35].double() + gap / 3 * testing.rows(35, 9, seed=1, dtype=torch.float64)).float()
    nearby = (x.double() + gap / 3 * testing.rows(70, 9, seed=2, dtype=torch.float64)).float()

    def distances(x, y=None):
        return lambda table: table["similarity"](x, y, "euclidean").diagonal(35 if y is None else 0)

    def edges(x, y=None):
        """A Huber penalty against a teacher whose nodes are far apart: its slope is that of the distance."""
        far = torch.arange(70, device=x.device, dtype=x.dtype).unsqueeze(1) * 9
        return lambda table: table["edge_sum"](x, y, far, None if y is None else far + 700, "euclidean", "huber")

    for of_table in (distances, edges) if gap == 1e-3 else (distances,):
        for inputs in ([x], [x, nearby]):
            testing.check(
                lambda *nodes, of_table=of_table: of_table(*nodes)(OPERATIONS),
                lambda *nodes, of_table=of_table: of_table(*nodes)(vars(reference)),
                inputs, (True,) * len(inputs), device, 6e-7,
            )  # fmt: skip
