"""Node sums on kernels against the reference in float64."""

import pytest
from graphkd_kernels import reference
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing


def check(student, teacher, options, needs, device, tolerance=5e-6, everyone=None):
    nodes = [None if each is None else each.to(device) for each in (student, teacher, everyone)]
    with testing.poisoned():
        found = testing.errors(
            lambda s, t, e: OPERATIONS["node_sum"](s, t, *options, e),
            lambda s, t, e: reference.node_sum(s, t, *options, e),
            nodes,
            needs,
        )
    assert max(found) < tolerance, found


@pytest.mark.parametrize("target", ["identity", "gram", "diagonal"])
@pytest.mark.parametrize("relation", ["gram", "pearson"])
@pytest.mark.parametrize(("n", "d"), [(97, 33), (40, 65)], ids=["columns", "tiles"])
def test_every_target(target, relation, n, d, device):
    student, teacher = testing.rows(n, d) / 4, testing.rows(n, d, seed=1) / 4
    check(student, teacher, (relation, target, 0), (True, True, False), device)


@pytest.mark.parametrize("target", ["identity", "gram", "diagonal"])
@pytest.mark.parametrize("d", [17, 65], ids=["columns", "tiles"])
def test_one_rank_of_several(target, d, device):
    student, everyone = testing.rows(90, d), testing.rows(90, d, seed=1)
    needs = (True, True, target == "gram")
    check(
        student, everyone[30:63].clone(), ("cosine", target, 30), needs, device, everyone=everyone if needs[2] else None
    )


def test_diagonal_of_nearly_equal_rows(device):
    x = testing.rows(63, 65)
    check(testing.near(x), x, ("cosine", "diagonal", 0), (True, False, False), device, 2e-3)
    check(testing.with_zero_row(x), testing.near(x), ("cosine", "diagonal", 0), (True, True, False), device, 2e-3)


def test_relations_that_are_no_products_are_refused(device):
    x = testing.rows(5, 3).to(device)
    with pytest.raises(RuntimeError, match="node sums of gram, cosine, pearson, not of 'rbf'"):
        OPERATIONS["node_sum"](x, x, "rbf", "identity")
