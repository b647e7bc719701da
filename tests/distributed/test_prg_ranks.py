"""Two ranks, even and uneven, give the values and (averaged) gradients of one process on the whole batch."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from tests.distributed.prg_cases import OUTCOMES, SPLITS, every_outcome

CASES = [(kind, name, split) for kind, _, cases in OUTCOMES for name in cases for split in SPLITS]
F64 = torch.float64


@pytest.fixture(scope="module")
def ranks(on_ranks):
    return on_ranks(2, every_outcome)


@pytest.mark.parametrize(("kind", "name", "split"), CASES)
def test_two_ranks_are_one_process(ranks, kind, name, split):
    outcome, cases = next((outcome, cases) for each, outcome, cases in OUTCOMES if each == kind)
    whole = outcome(cases[name], slice(None))
    parts = [rank[kind, name, split] for rank in ranks]
    close = {"rtol": 1e-9, "atol": 1e-12}
    for part in parts:  # the same global value and state everywhere
        assert_close(part["values"], whole["values"], **close)
        assert_close(part["buffers"], whole["buffers"], **close)
    assert_close(torch.cat([part["rows"] for part in parts]) / (2 if kind != "step" else 1), whole["rows"], **close)
    for parameter, expected in whole["shared"].items():
        averaged = sum(part["shared"][parameter] for part in parts) / 2
        assert_close(averaged, expected, **close, msg=lambda text, name=parameter: f"{name}: {text}")


def test_rows_of_each_rank(ranks):
    assert [rank["primitives"]["sizes"] for rank in ranks] == [[3, 2], [3, 2]]


def test_total_and_its_gradient(ranks):
    for rank in ranks:
        value, grad = rank["primitives"]["total"]
        assert_close(value, tensor([3.0, 3.0], dtype=F64))
        assert_close(grad, tensor([12.0, 12.0], dtype=F64))  # 2 ranks * 2 * 3


def test_gather_and_its_gradient(ranks):
    for rank, own in zip(ranks, (3, 2), strict=True):
        value, grad = rank["primitives"]["gather"]
        assert value.tolist() == [0, 1, 2, 10, 11]
        assert_close(grad, torch.full((own,), 2.0 * 72 * 3, dtype=F64))  # 2 ranks * S * (1 + 2)


def test_the_gradient_of_a_maximum_goes_to_its_holder(ranks):
    assert [rank["primitives"]["maximum"][0] for rank in ranks] == [7, 7]
    assert [rank["primitives"]["maximum"][1] for rank in ranks] == [0, 6]
    assert [rank["primitives"]["tie"][1] for rank in ranks] == [3, 3]
