"""Edge sums on kernels against the reference in float64: value and every gradient."""

import pytest
import torch
from graphkd_kernels import reference, testing
from graphkd_kernels._triton.table import OPERATIONS

TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-12, torch.bfloat16: 2e-2}
STUDENT = (True, False, False, False)


def check(inputs, options, needs, device, tolerance=None, operation="edge_sum"):
    dtype = next(each.dtype for each in inputs if each is not None)
    inputs = [None if each is None else each.to(device) for each in inputs]
    with testing.poisoned():
        found = testing.errors(
            lambda *nodes: OPERATIONS[operation](*nodes, *options),
            lambda *nodes: getattr(reference, operation)(*nodes, *options),
            inputs,
            needs,
        )
    assert max(found) < (tolerance or TOLERANCE[dtype]), found


@pytest.mark.parametrize("relation", ["gram", "cosine", "pearson", "euclidean", "squared_euclidean", "rbf"])
@pytest.mark.parametrize("penalty", ["square", "huber"])
def test_every_relation_and_penalty(relation, penalty, device):
    x, t = testing.rows(97, 65), testing.rows(97, 65, seed=1)
    scale = 0.2 if relation in ("rbf", "squared_euclidean") else 1.0
    check([scale * x, None, scale * t, None], (relation, penalty), STUDENT, device)
