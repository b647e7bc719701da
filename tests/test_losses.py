import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd.errors import MissingFeatureError, OptionError
from graphkd.losses import Losses


def test_total_by_hand():
    assert_close(Losses({"a": tensor(1.0), "b": tensor(0.5)}).total, tensor(1.5))


def test_total_carries_the_gradient_of_every_term():
    x = tensor(3.0, requires_grad=True)
    Losses({"a": x, "b": x**2}).total.backward()
    assert x.grad == 7


def test_a_nan_term_is_not_hidden():
    assert Losses({"a": tensor(1.0), "b": tensor(torch.nan)}).total.isnan()


def test_losses_are_a_dictionary():
    losses = Losses(a=tensor(1.0))
    assert isinstance(losses, dict)
    assert list(losses.items()) == [("a", tensor(1.0))]


def test_joined_keeps_both_and_changes_neither():
    a, b = Losses({"a": tensor(1.0)}), Losses({"b": tensor(2.0)})
    both = a.joined(b)
    assert isinstance(both, Losses)
    assert list(both) == ["a", "b"]
    assert list(a) == ["a"]
    assert_close(both.total, tensor(3.0))


def test_a_name_occurs_once():
    losses = Losses({"prg/ce": tensor(1.0), "prg/node": tensor(1.0)})
    with pytest.raises(OptionError, match="give the terms prg/ce, prg/node: rename one of them, distiller.name ="):
        losses.joined(losses)


def test_no_term_at_all():
    with pytest.raises(MissingFeatureError, match="no loss term to sum: every weight is 0, or no distiller was given"):
        _ = Losses().total
