import pytest
import torch

from graphkd.distillers.ickd import ICKDDistiller
from graphkd.errors import MissingFeatureError
from graphkd.features import Features


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


def test_networks_that_tell_no_channels_are_named():
    with pytest.raises(MissingFeatureError, match="needs channels, which neither Network nor Network tells"):
        ICKDDistiller.between(Network(), Network())
