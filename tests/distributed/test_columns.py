"""Correlation of columns over ranks; with several of them it is tested in tests/distributed/test_traffic.py."""

import pytest
import torch
from torch.testing import assert_close

from graphkd import distributed, ops
from graphkd.distributed import columns
from tests.kernels.inputs import randn, value_and_gradients


def test_one_rank_is_the_operation():
    x, y = randn(9, 4), randn(9, 4, seed=1)
    assert_close(columns.damped_column_pearson(x, y, 1e-8, 9), ops.damped_column_pearson(x, y, 1e-8))


@pytest.fixture
def alone(monkeypatch):
    """The form of several ranks, with nobody to exchange with."""
    monkeypatch.setattr(distributed, "total", lambda value: value)
    monkeypatch.setattr(distributed, "common_total", lambda value: value)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_sums_give_the_same_values_and_gradients(alone, offset):
    inputs = offset + randn(9, 4), offset + randn(9, 4, seed=1)
    inputs[0][:, 2] = offset
    found, gradients = value_and_gradients(lambda x, y: columns.damped_column_pearson(x, y, 1e-8, 9), inputs)
    expected, whole = value_and_gradients(lambda x, y: ops.damped_column_pearson(x, y, 1e-8), inputs)
    assert found[2] == 0
    assert_close(found, expected)
    assert_close(gradients, whole)


def test_a_nan_goes_out(alone):
    x = randn(9, 4)
    x[3, 1] = torch.nan
    assert columns.damped_column_pearson(x, randn(9, 4, seed=1), 1e-8, 9).isnan().tolist() == [
        False,
        True,
        False,
        False,
    ]
