from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.sp import SPDistiller
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.features import Features, Mixture
from tests.distiller_laws import networks


def test_maps_are_summed_and_equal_the_function():
    student, teacher = networks(9)
    pairs = [(student.maps[name], teacher.maps[name]) for name in ("layer1", "layer2")]
    expected = 3000 * sum(functional.similarity_preserving(*each) for each in pairs)
    assert_close(SPDistiller()(student, teacher).total, expected)


def test_maps_pair_by_name():
    student, teacher = networks(9)
    found = SPDistiller(maps={"layer2": "layer1"}, weight=1.0)(student, teacher).total
    assert_close(found, functional.similarity_preserving(student.maps["layer2"], teacher.maps["layer1"]))


def test_embeddings_instead_of_maps():
    student, teacher = networks(9)
    found = SPDistiller(on="embedding", weight=1.0)(student, teacher).total
    assert_close(found, functional.similarity_preserving(student.embedding, teacher.embedding))


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
