from math import log

import pytest
import torch
from torch import tensor
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from graphkd.distillers.pseudo_labels import PseudoLabels
from graphkd.errors import MissingFeatureError, OptionError
from graphkd.features import Features, Mixture

TEACHER = tensor([[log(0.9), log(0.1)], [log(0.4), log(0.6)]])  # sure of class 0, unsure of class 1
STUDENT = tensor([[log(0.25), log(0.75)], [log(0.25), log(0.75)]])
CE = tensor([log(4), log(4 / 3)])  # of class 0, of class 1


def losses(labels, teacher=TEACHER, student=STUDENT, target=None, mixture=None):
    return labels(Features(logits=student), Features(logits=teacher, mixture=mixture), target)


def test_hard_labels_by_hand():
    assert_close(losses(PseudoLabels()), CE)


def test_soft_labels_by_hand():
    assert_close(losses(PseudoLabels("soft")), TEACHER.exp() @ CE)


def test_temperature_by_hand():  # square roots of the odds: 9 becomes 3
    expected = tensor([[0.75, 0.25]]) @ CE
    assert_close(losses(PseudoLabels("soft", temperature=2.0))[:1], expected)


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, [1, 1]), (0.6, [1, 1]), (0.7, [1, 0]), (0.95, [0, 0])])
def test_threshold_by_hand(threshold, kept):
    teacher = TEACHER + tensor([[0.0, 0.0], [0.0, 1e-6]])  # just above 0.6
    assert_close(losses(PseudoLabels(threshold=threshold), teacher), tensor(kept) * CE)


def test_true_labels_are_the_supervised_reference():
    found = losses(PseudoLabels("label"), target=tensor([1, 1]))
    assert_close(found, cross_entropy(STUDENT, tensor([1, 1]), reduction="none"))


def test_blended_images_have_blended_hard_labels():
    mixture = Mixture(tensor([1, 0]), tensor([0.75, 0.5]))
    assert_close(losses(PseudoLabels(), mixture=mixture), tensor([[0.75, 0.25], [0.5, 0.5]]) @ CE)


def test_share_one_is_unmixed():
    mixture = Mixture(tensor([1, 0]), torch.ones(2))
    for labels in (PseudoLabels(), PseudoLabels("soft"), PseudoLabels(threshold=0.7)):
        assert_close(losses(labels, mixture=mixture), losses(labels))


def test_an_unsure_partner_teaches_nothing():
    mixture = Mixture(tensor([1, 0]), tensor([0.75, 0.5]))
    assert_close(losses(PseudoLabels(threshold=0.7), mixture=mixture), tensor([0.75 * CE[0], 0.5 * CE[0]]))


def test_gradient_reaches_the_student_only():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone()
    losses(PseudoLabels("soft"), teacher, student).sum().backward()
    assert_close(student.grad, STUDENT.softmax(-1) - TEACHER.exp())


@pytest.mark.parametrize("target", ["hard", "soft"])
def test_a_nan_of_the_teacher_is_not_hidden(target):
    teacher = TEACHER.clone()
    teacher[0, 1] = torch.nan
    for labels in (PseudoLabels(target), PseudoLabels(target, threshold=0.5)):
        assert losses(labels, teacher).isnan().tolist() == [True, False]


def test_a_target_of_ones_own():
    def uniform(probabilities, labels):
        return torch.full_like(probabilities, 0.5)

    assert_close(losses(PseudoLabels(uniform)), CE.mean().expand(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "calibration temperature is > 0, found 0"),
        ({"temperature": float("nan")}, "calibration temperature is > 0, found nan"),
        ({"threshold": 1}, r"threshold is in \[0, 1\), found 1: nothing passes 1"),
        ({"threshold": -0.1}, r"threshold is in \[0, 1\), found -0.1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(OptionError, match=message):
        PseudoLabels(**options)


def test_true_labels_must_be_given():
    with pytest.raises(MissingFeatureError, match="labels='label' trains on true labels and needs target=...: give it"):
        losses(PseudoLabels("label"))


def test_a_teacher_without_classes():
    with pytest.raises(MissingFeatureError, match=r"the pseudo-label term needs features.logits"):
        PseudoLabels()(Features(logits=STUDENT), Features(embedding=STUDENT), None)
