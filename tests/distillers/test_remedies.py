"""A plain network, and an option that a method does not have: the message says what to do."""

import pytest
import timm
import torch

from graphkd.distillers.combined import CombinedDistiller
from graphkd.distillers.ega import EGADistiller
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.mimic import MimicDistiller
from graphkd.distillers.prg import distiller as prg
from graphkd.errors import ArgumentTypeError, UnknownNameError
from graphkd.models.tap import Tap
from graphkd.step import Step, labelled_cross_entropy
from graphkd.teachers.classifier import ClassifierTeacher

PLAIN = timm.create_model("test_resnet", num_classes=3)
TEACHER = ClassifierTeacher(timm.create_model("test_resnet", num_classes=3), classes=["a", "b", "c"])
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("call", "side", "remedy"),
    [
        (lambda: prg.PRGDistiller.between(PLAIN, TEACHER), "student", r"Tap\("),
        (lambda: prg.PRGDistiller.between(Tap(PLAIN), PLAIN), "teacher", r"ClassifierTeacher\("),
        (lambda: create_distiller("ega", PLAIN, TEACHER), "student", r"Tap\("),
        (lambda: create_distiller("kd", PLAIN, TEACHER)(PLAIN(IMAGES), TEACHER(IMAGES)), "student", r"Tap\("),
        (lambda: Step(PLAIN, task=labelled_cross_entropy)(IMAGES, target=torch.zeros(2).long()), "student", r"Tap\("),
    ],
)
def test_a_plain_network_is_to_be_wrapped(call, side, remedy):
    with pytest.raises(ArgumentTypeError, match=rf"{side}.*: wrap it(s network)? in {remedy}"):
        call()


@pytest.mark.parametrize("method", [prg.PRGDistiller, EGADistiller, MimicDistiller, CombinedDistiller])
def test_between_names_an_option_that_it_does_not_have(method):
    with pytest.raises(UnknownNameError, match=f"unknown option of {method.__name__} 'node_weigth'"):
        method.between(Tap(PLAIN), TEACHER, node_weigth=1)


def test_the_nearest_option_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'node_weight'"):
        prg.PRGDistiller.between(Tap(PLAIN), TEACHER, node_weigth=1)
