"""What each of two ranks sees of total, gather, maximum and sizes, with its own gradients."""

import torch
from torch import tensor
from torch.testing import assert_close

from graphkd import distributed

F64 = torch.float64


def collectives():
    rank = distributed.rank()
    found = {"sizes": distributed.sizes(3 - rank, torch.device("cpu"))}
    x = torch.full((2,), 1.0 + rank, dtype=F64, requires_grad=True)  # (1, 1), (2, 2)
    total = distributed.total(x)
    total.square().sum().backward()
    found["total"] = total.detach(), x.grad
    rows = (torch.arange(3.0 - rank, dtype=F64) + 10 * rank).requires_grad_()  # (0, 1, 2), (10, 11)
    everyone = distributed.gather(rows, found["sizes"])
    (distributed.total((1 + rank) * everyone.sum()) ** 2 / 2).backward()  # L = S^2 / 2, S = 3 * 24
    found["gather"] = everyone.detach(), rows.grad
    for name, start in (("maximum", 5.0), ("tie", 7.0)):
        value = torch.tensor(start if rank == 0 else 7.0, dtype=F64, requires_grad=True)
        largest = distributed.maximum(value)
        (3 * largest).backward()
        found[name] = largest.detach(), value.grad
    return found


def test_values_and_gradients_by_hand(on_ranks):
    for rank, found in enumerate(on_ranks(2, collectives)):
        assert found["sizes"] == [3, 2]
        assert_close(found["total"], (tensor([3.0, 3.0]), tensor([12.0, 12.0])), check_dtype=False)  # 2 ranks * 2 * 3
        value, grad = found["gather"]
        assert value.tolist() == [0, 1, 2, 10, 11]
        assert grad.tolist() == [2 * 72 * 3] * (3 - rank)  # 2 ranks * S * (1 + 2)
        assert found["maximum"] == (7, 6 * rank)  # its holder's
        assert found["tie"] == (7, 3)
