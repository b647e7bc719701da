from dataclasses import replace

import pytest
import torch

from graphkd.distillers.sp import SPDistiller
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.features import Features, Mixture
from tests.distiller_laws import networks


def test_bad_input_is_named():
    student, teacher = networks(4)
    with pytest.raises(UnknownNameError, match="unknown part of the features 'embeding'; did you mean 'embedding'"):
        SPDistiller(on="embeding")
    with pytest.raises(UnknownNameError, match="unknown one of the maps 'layer3'; did you mean 'layer"):
        SPDistiller(maps={"layer1": "layer3"})(student, teacher)
    with pytest.raises(OptionError, match="no maps to compare"):
        SPDistiller(maps={})(student, teacher)
    with pytest.raises(MissingFeatureError, match="SP needs features.maps"):
        SPDistiller()(Features(logits=torch.zeros(2, 2)), Features(logits=torch.zeros(2, 2)))
    one = replace(teacher, maps={"layer1": teacher.maps["layer1"]})
    with pytest.raises(ShapeError, match=r"student has 2 \(layer1, layer2\), the teacher 1 \(layer1\): name the pairs"):
        SPDistiller()(student, one)


def test_maps_of_a_store_cannot_be_blended():
    student, teacher = networks(4)
    teacher = replace(teacher, mixture=Mixture(torch.tensor([1, 0, 3, 2]), torch.full((4,), 0.5)))
    with pytest.raises(OptionError, match="give the teacher the blended images instead of a store"):
        SPDistiller()(student, teacher)
