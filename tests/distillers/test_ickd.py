import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.ickd import ICKDDistiller
from graphkd.errors import MissingFeatureError, ShapeError, UnknownNameError
from graphkd.features import Features
from tests.distiller_laws import networks


def test_without_adapter_equals_the_function():
    student, teacher = networks(9)
    distiller = ICKDDistiller.between(student, teacher, adapter="none", weight=1.0)
    expected = sum(functional.ickd(student.maps[name], teacher.maps[name]) for name in ("layer1", "layer2"))
    assert_close(distiller(student, teacher).total, expected)


def test_adapter_leads_to_the_teachers_channels_and_is_trained():
    student = Features(maps={"a": torch.randn(3, 2, 4, 4)})
    teacher = Features(maps={"b": torch.randn(3, 5, 2, 2)})
    distiller = ICKDDistiller.between(student, teacher, maps={"a": "b"})
    distiller(student, teacher).total.backward()
    assert distiller.adapters[0][0].weight.shape == (5, 2, 1, 1)
    assert distiller.adapters[0][0].weight.grad.abs().sum() > 0


class Network:
    """Tells its embedding and classes, as a Tap does, and nothing of its maps."""

    embedding_dim, num_classes = 6, 5


def test_bad_input_is_named():
    student, teacher = networks(4)
    with pytest.raises(MissingFeatureError, match="needs channels, which neither Network nor Network tells"):
        ICKDDistiller.between(Network(), Network())
    with pytest.raises(ShapeError, match="2 channels, teacher maps 3, and adapter='none'.*adapter='conv_bn'"):
        ICKDDistiller([(2, 3)], adapter="none")
    with pytest.raises(UnknownNameError, match="unknown adapter 'conv_nb'; did you mean 'conv_bn'"):
        ICKDDistiller([(2, 3)], adapter="conv_nb")
    with pytest.raises(ShapeError, match="built for a student map of 9 channels, found 10"):
        ICKDDistiller([(9, 4)], maps={"layer1": "layer1"})(student, teacher)
    with pytest.raises(ShapeError, match="built for 1 maps, found 2"):
        ICKDDistiller([(4, 4)])(student, teacher)
