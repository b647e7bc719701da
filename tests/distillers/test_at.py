import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.at import ATDistiller
from graphkd.errors import OptionError
from graphkd.features import Features
from tests.distiller_laws import networks


def test_equals_the_function():
    student, teacher = networks(9)
    expected = sum(functional.attention_transfer(student.maps[name], teacher.maps[name]) for name in student.maps)
    assert_close(ATDistiller()(student, teacher).total, 1000 * expected)


def test_two_positions_by_hand():  # attention (1, 0) against (1, 1) / sqrt(2)
    student = Features(maps={"a": torch.tensor([[[[3.0, 0.0]]]])})
    teacher = Features(maps={"a": torch.tensor([[[[2.0, -2.0]]]])})
    half = 0.5**0.5
    expected = torch.tensor(((1 - half) ** 2 + half**2) / 2)
    assert_close(ATDistiller(weight=1.0)(student, teacher).total, expected)


def test_an_odd_power_is_refused():
    with pytest.raises(OptionError, match="even number >= 2, found 3"):
        ATDistiller(power=3)
