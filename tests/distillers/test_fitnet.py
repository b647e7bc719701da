import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.fitnet import FitNetDistiller
from graphkd.errors import ShapeError
from graphkd.features import Features
from tests.distiller_laws import networks


def test_without_adapter_equals_the_function():
    student, teacher = networks(9)
    distiller = FitNetDistiller.between(student, teacher, maps={"layer1": "layer1"}, adapter="none")
    assert_close(
        distiller(student, teacher).total, 100 * functional.fitnet(student.maps["layer1"], teacher.maps["layer1"])
    )


def test_adapter_is_convolution_norm_and_relu():
    student = Features(maps={"a": torch.randn(3, 2, 4, 4)})
    teacher = Features(maps={"b": torch.zeros(3, 5, 4, 4)})
    distiller = FitNetDistiller.between(student, teacher, weight=1.0)
    value = distiller(student, teacher).total
    assert 0.3 < value < 0.7  # the mean square of a normalised value behind a ReLU is 1/2


def test_channels_that_differ_are_named():
    with pytest.raises(ShapeError, match="2 channels, teacher maps 3"):
        FitNetDistiller([(2, 3)], adapter="none")
