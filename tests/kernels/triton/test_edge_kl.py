"""KL and cross entropy of edges on kernels against the reference in float64: value and every gradient."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton import node_blocks
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing

BOUNDED = {"cosine": 0.1, "pearson": 0.5}
TEMPERATURES = BOUNDED | {"gram": 5.0, "euclidean": 1.0, "squared_euclidean": 20.0, "rbf": 0.3}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11, torch.bfloat16: 1e-2}
STUDENT, BOTH, ALL = (True, False, False, False), (True, False, True, False), (True, True, True, True)


def graphs(n=70, m=None, d=33, e=17, dtype=torch.float32, b=()):
    """Nodes of student and teacher; a target set of its own where m is given."""
    shapes = ((n, d), (m, d), (n, e), (m, e))
    return [
        None if shape[0] is None else testing.rows(*b, *shape, seed=seed, dtype=dtype)
        for seed, shape in enumerate(shapes)
    ]


def check(inputs, relation, needs, device, operation="edge_kl", temperature=None):
    """Errors below the tolerance, or below twice those of the reference in the inputs' own precision."""
    options = relation, TEMPERATURES[relation] if temperature is None else temperature, 0.05
    testing.check(
        lambda *nodes: OPERATIONS[operation](*nodes, *options),
        lambda *nodes: getattr(reference, operation)(*nodes, *options),
        inputs,
        needs,
        device,
        TOLERANCE[inputs[0].dtype],
        beside_oracle=True,
    )


@pytest.mark.parametrize("relation", TEMPERATURES)
def test_every_relation(relation, device):
    check(graphs(40, 70, 20, 17), relation, STUDENT, device)


def test_both_networks_and_both_node_sets(device):
    check(graphs(40, 70, 20, 17, b=(2,)), "gram", ALL, device)
    check(graphs(40, 70, 20, 17), "euclidean", ALL, device)


def test_a_graph_with_itself(device):
    check(graphs(70), "cosine", BOTH, device)
    check(graphs(70), "rbf", BOTH, device)


@pytest.mark.parametrize("n", [1, 2, 63])
def test_sizes(n, device):
    check(graphs(n, d=5, e=3), "euclidean", BOTH, device)


@pytest.mark.slow
def test_blocks_that_do_not_fit(monkeypatch, device):
    monkeypatch.setattr(node_blocks, "ENTRIES", 500)
    check(graphs(40, 70, 20, 17, b=(2,)), "gram", ALL, device)
    check(graphs(70), "euclidean", BOTH, device)


def test_float64(device):
    check(graphs(40, 33, 20, 17, dtype=torch.float64), "pearson", ALL, device)
    check(graphs(33, dtype=torch.float64), "gram", BOTH, device, temperature=3.0)


@pytest.mark.parametrize("noise", [1e-2, 1e-3])
def test_near_convergence(noise, device):
    x = testing.rows(65, 32)
    check([testing.near(x, noise), None, x, None], "cosine", STUDENT, device)
    check([testing.near(x, noise), None, x, None], "gram", STUDENT, device)


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3])
def test_close_rows(gap, others, device):
    """Values keep the digits that products lose; gradients, sums of products, lose as many as the gap has zeros."""
    x, t = (testing.with_close_rows(testing.rows(34, 33, seed=seed), gap).to(device) for seed in (0, 1))
    inputs = [x, testing.near(x, gap, seed=5), t, testing.near(t, gap, seed=6)] if others else [x, None, t, None]
    options = "euclidean", 0.01  # sharp: the nearest alone count
    value, gradient = testing.errors(
        lambda *nodes: OPERATIONS["edge_kl"](*nodes, *options),
        lambda *nodes: reference.edge_kl(*nodes, *options), inputs, STUDENT,
    )[:2]  # fmt: skip
    assert value < 1e-5
    assert gradient < 1e-6 / gap


def test_student_equals_teacher(device):
    x = testing.rows(33, 20).to(device).requires_grad_()
    value = OPERATIONS["edge_kl"](x, None, x.detach(), None, "cosine", 0.1)
    value.backward()
    assert abs(float(value)) < 1e-5
    assert float(x.grad.abs().max()) < 1e-5


@pytest.mark.parametrize(
    "change", [testing.with_dead_row, testing.with_zero_row, testing.with_duplicates, lambda x: x + 30]
)
def test_degenerate_rows(change, device):
    relation = "pearson" if change is testing.with_dead_row else "euclidean"
    x, _, t, _ = graphs(33)
    check([change(x), None, change(t), None], relation, BOTH, device)


@pytest.mark.parametrize("relation", ["cosine", "euclidean"])
def test_cross_entropy(relation, device):
    x, y, positives = testing.rows(40, 20), testing.rows(70, 20, seed=1), torch.arange(40) * 7 % 70
    check([x, y, positives], relation, (True, True, False), device, "info_nce")
    check([x, None, positives[:40] % 40], relation, (True, False, False), device, "info_nce")


def test_a_large_logit_overflows_nothing(device):
    x, y = testing.rows(20, 8), testing.rows(30, 8, seed=1)
    check([100 * x, y, 100 * x.flip(0), y], "gram", STUDENT, device, temperature=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("relation", TEMPERATURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [None, 130])
def test_the_wide_matrix(relation, dtype, m, device):
    check(graphs(97, m, 65, 70, dtype, b=(2,)), relation, ALL if m else BOTH, device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("relation", ["cosine", "gram", "euclidean"])
def test_16_bits_lose_little_but_their_own_rounding(dtype, relation, device):
    """Against float64 of the rounded inputs; the gradient is rounded to 16 bits once more."""
    options, nodes = (relation, TEMPERATURES[relation], 0.05), [x.to(device) for x in graphs(40, 70, 20, 17, dtype)]
    value, *gradients = testing.errors(
        lambda *nodes: OPERATIONS["edge_kl"](*nodes, *options),
        lambda *nodes: reference.edge_kl(*nodes, *options), nodes, ALL,
    )  # fmt: skip
    assert value < 2e-5
    assert max(gradients) < 4e-3
