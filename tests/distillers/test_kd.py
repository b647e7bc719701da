import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.kd import KDDistiller
from graphkd.errors import OptionError, ShapeError
from graphkd.features import Features
from tests.distiller_laws import networks


def test_two_classes_by_hand():  # softmax of (log 3, 0) is (3/4, 1/4), of (0, 0) is (1/2, 1/2)
    student = Features(logits=torch.zeros(1, 2))
    teacher = Features(logits=torch.tensor([[3.0, 1.0]]).log())
    expected = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    assert_close(KDDistiller(weight=1.0, temperature=1.0)(student, teacher).total, expected)


def test_equals_the_function_times_its_weight():
    student, teacher = networks(9)
    expected = 0.9 * functional.kd(student.logits, teacher.logits, temperature=2.0)
    assert_close(KDDistiller(temperature=2.0)(student, teacher)["kd/kl"], expected)


def test_bad_input_is_named():
    with pytest.raises(OptionError, match="temperature of a softmax is > 0, found 0"):
        KDDistiller(temperature=0.0)
    with pytest.raises(ShapeError, match=r"student logits \(2, 3\) and teacher logits \(2, 4\) differ: .*same classes"):
        KDDistiller()(Features(logits=torch.zeros(2, 3)), Features(logits=torch.zeros(2, 4)))
