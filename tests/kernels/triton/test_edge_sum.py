"""Edge sums on kernels against the reference in float64: value and every gradient."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-12, torch.bfloat16: 3e-3, torch.float16: 4e-4}
STUDENT, BOTH, ALL = (True, False, False, False), (True, False, True, False), (True,) * 4
PRODUCTS, DISTANCES = ("gram", "cosine", "pearson"), ("euclidean", "squared_euclidean", "rbf")
GAMMA = 0.02


def check(inputs, options, needs, device, tolerance=None):
    dtype = next(each.dtype for each in inputs if each is not None)
    testing.check(
        lambda *nodes: OPERATIONS["edge_sum"](*nodes, *options),
        lambda *nodes: reference.edge_sum(*nodes, *options),
        inputs,
        needs,
        device,
        tolerance or TOLERANCE[dtype],
    )


def pair(*shape, dtype=torch.float32, scale=1.0):
    return [scale * testing.rows(*shape, dtype=dtype), None, scale * testing.rows(*shape, seed=1, dtype=dtype), None]


@pytest.mark.parametrize("relation", PRODUCTS + DISTANCES)
@pytest.mark.parametrize("penalty", ["square", "huber"])
def test_every_relation_and_penalty(relation, penalty, device):
    check(pair(97, 65), (relation, penalty, GAMMA), STUDENT, device)


@pytest.mark.parametrize("n", [2, 63, pytest.param(130, marks=pytest.mark.slow)])
@pytest.mark.parametrize("relation", ["pearson", "euclidean"])
def test_sizes(n, relation, device):
    check(pair(n, 20), (relation, "square"), BOTH, device)


@pytest.mark.parametrize("relation", ["pearson", "euclidean"])
def test_a_single_node_agrees_with_itself(relation, device):
    value = OPERATIONS["edge_sum"](*[x if x is None else x.to(device) for x in pair(1, 20)], relation, "square")
    assert value < 1e-12


@pytest.mark.parametrize("widths", [(33, 33), (65, 20)], ids=["equal widths", "unequal widths"])
@pytest.mark.parametrize(
    ("n", "m", "relation"),
    [(20, 30, "cosine"), (90, 130, "cosine"), (20, 30, "rbf"), pytest.param(90, 130, "rbf", marks=pytest.mark.slow)],
)
def test_two_sets_and_every_gradient(widths, n, m, relation, device):
    ds, dt = widths
    inputs = [testing.rows(*size, seed=i) for i, size in enumerate([(n, ds), (m, ds), (n, dt), (m, dt)])]
    check(inputs, (relation, "square", GAMMA), ALL, device)


def test_the_targets_gradient_alone(device):
    inputs = [testing.rows(*size, seed=i) for i, size in enumerate([(20, 9), (30, 9), (20, 9), (30, 9)])]
    check(inputs, ("cosine", "square"), (False, True, False, False), device)


@pytest.mark.parametrize("relation", PRODUCTS)
@pytest.mark.parametrize("shape", [(2, 70, 9), (2, 1, 20, 49)], ids=["columns: the dual form", "tiles"])
def test_batches_of_channel_graphs(relation, shape, device):
    check(pair(*shape), (relation, "square"), BOTH, device)


@pytest.mark.parametrize("relation", PRODUCTS + DISTANCES)
@pytest.mark.parametrize("change", [testing.with_zero_row, testing.with_dead_row, testing.with_duplicates])
def test_degenerate_rows(relation, change, device):
    s, _, t, _ = pair(70, 33)
    check([change(s), None, t, None], (relation, "square", GAMMA), BOTH, device)


@pytest.mark.parametrize("n", [40, 97], ids=["tiles", "columns"])
@pytest.mark.parametrize("relation", PRODUCTS)
def test_equal_networks(n, relation, device):
    x = testing.rows(n, 33).to(device).requires_grad_()
    value = OPERATIONS["edge_sum"](x, None, x.detach().clone(), None, relation, "square")
    value.backward()
    assert value == 0
    assert (x.grad == 0).all()


@pytest.mark.parametrize("n", [50, 130], ids=["tiles", "columns"])
@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [
        (torch.float32, {1e-1: 3e-6, 1e-2: 1e-5, 1e-3: 2e-4}),
        (torch.bfloat16, dict.fromkeys((1e-1, 1e-2, 1e-3), 2.5e-3)),
    ],
    ids=["float32", "bfloat16"],
)
def test_near_convergence_no_digits_are_lost(n, dtype, bounds, device):
    """The table of kernels/README.md: rows within a noise of the teacher's; of bfloat16, the gradient's last rounding is left."""
    teacher = torch.nn.functional.normalize(testing.rows(n, 32, dtype=torch.float64), dim=-1)
    for noise, bound in bounds.items():
        student = testing.near(teacher, noise / 32**0.5)
        # the oracle starts from the same rounded numbers
        inputs = [student.to(dtype), None, teacher.to(dtype), None]
        check(inputs, ("gram", "square"), STUDENT, device, bound)


def test_a_large_offset_of_the_features(device):
    s, t = (testing.rows(70, 65, seed=seed, dtype=torch.float64) + 30 for seed in (0, 1))
    check([s.float(), None, t.float(), None], ("pearson", "square"), STUDENT, device, 2e-5)
    check([s.float(), None, t.float(), None], ("euclidean", "square"), STUDENT, device, 2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("relation", "n"), [("pearson", 40), ("pearson", 97), ("euclidean", 40)])
def test_other_types(dtype, relation, n, device):
    check(pair(n, 33, dtype=dtype), (relation, "square"), BOTH, device)


def test_a_mixture_of_types(device):
    s, _, t, _ = pair(97, 33)
    check(
        [s, None, t.bfloat16(), None], ("pearson", "square"), BOTH, device, 6e-3
    )  # the teacher's gradient is bfloat16


def test_large_float16_does_not_overflow(device):
    nodes = pair(97, 33, dtype=torch.float16, scale=1000.0)
    check(nodes, ("pearson", "square"), STUDENT, device)
    value = OPERATIONS["edge_sum"](*[x if x is None else x.to(device) for x in nodes], "gram", "square")
    assert value.dtype == torch.float32
    assert value.isfinite()


@pytest.mark.parametrize("relation", ["pearson", "gram", "euclidean"])
@pytest.mark.parametrize("n", [20, 97], ids=["tiles", "columns"])
@pytest.mark.parametrize("penalty", ["square", "huber"])
def test_nan_stays(relation, n, penalty, device):
    s, _, t, _ = (x if x is None else x.to(device) for x in pair(n, 33))
    s[3, 5] = float("nan")
    s.requires_grad_()
    value = OPERATIONS["edge_sum"](s, None, t, None, relation, penalty)
    value.backward()
    assert value.isnan()
    assert s.grad[3].isnan().any()


def test_a_graph_without_nodes(device):
    x = torch.zeros(0, 5, device=device, requires_grad=True)
    value = OPERATIONS["edge_sum"](x, None, x.detach(), None, "pearson", "square")
    value.backward()
    assert value == 0
    assert x.grad.shape == (0, 5)


@pytest.mark.gpu
def test_pairs_beyond_32_bits():
    """65,536^2 pairs and more: no index of the kernels may be a product of two sizes in 32 bits."""
    n, d = 66_000, 64
    s, t = (testing.rows(n, d, seed=seed).cuda().requires_grad_(seed == 0) for seed in range(2))
    columns = OPERATIONS["edge_sum"](s, None, t, None, "cosine", "square")
    tiles = OPERATIONS["edge_sum"](
        s, None, t, None, "cosine", "huber"
    )  # half of it: hardly a difference of cosines is above 1
    torch.testing.assert_close(2 * tiles, columns, rtol=1e-3, atol=0)
