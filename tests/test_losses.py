"""Named loss terms, and labels: left out below 0, refused from the number of classes on, in every loss that reads them."""

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.dkd import DKDDistiller
from graphkd.distillers.ega import EGADistiller
from graphkd.distillers.gkd import GKDDistiller
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.errors import DataError, MissingFeatureError, OptionError, ShapeError
from graphkd.losses import Losses, cross_entropy, labelled
from graphkd.step import labelled_cross_entropy
from tests.distiller_laws import networks, rows


def test_total_is_the_sum_with_the_gradient_of_every_term():
    x = tensor(3.0, requires_grad=True)
    losses = Losses({"a": x, "b": x**2})
    assert isinstance(losses, dict)
    assert losses.total == 12
    losses.total.backward()
    assert x.grad == 7


def test_a_nan_term_is_not_hidden():
    assert Losses({"a": tensor(1.0), "b": tensor(torch.nan)}).total.isnan()


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


TARGET = tensor([0, 3, -1, 4, -100, 1])
KNOWN = TARGET >= 0
NONE = torch.full_like(TARGET, -1)


def draw(seed=0):
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOSSES = {
    "dkd": lambda s, t, y: functional.dkd(s, t, y),
    "dkd_target": lambda s, t, y: functional.dkd_target(s, t, y),
    "dkd_non_target": lambda s, t, y: functional.dkd_non_target(s, t, y),
    "labelled_cross_entropy": lambda s, t, y: labelled_cross_entropy(s, y),
}
every = pytest.mark.parametrize("name", LOSSES)


def test_indices_and_what_counts_by_hand():
    index, counted = labelled(tensor([2, -1, 0, -100]), torch.zeros(4, 3))
    assert index.tolist() == [2, 0, 0, 0]
    assert counted.tolist() == [1, 0, 1, 0]


def test_cross_entropy_of_three_classes_by_hand():
    losses, counted = cross_entropy(torch.zeros(2, 3), tensor([1, -1]))
    assert_close(losses, tensor([3.0, 1.0]).log())
    assert counted.tolist() == [1, 0]


@every
def test_samples_without_a_label_leave_the_mean(name):
    student, teacher = draw().requires_grad_(), draw(1).masked_fill(~KNOWN.unsqueeze(1), torch.nan)
    value = LOSSES[name](student, teacher, TARGET)
    assert_close(value, LOSSES[name](student[KNOWN], teacher[KNOWN], TARGET[KNOWN]))
    (gradient,) = torch.autograd.grad(value, student)
    assert (gradient[~KNOWN] == 0).all()
    assert (gradient[KNOWN] != 0).any()


@every
def test_no_label_at_all_is_a_loss_and_gradient_of_zero(name):
    student = draw().requires_grad_()
    value = LOSSES[name](student, draw(1), NONE)
    value.backward()
    assert value == 0
    assert (student.grad == 0).all()


@every
def test_a_label_that_no_class_has_is_refused(name):
    with pytest.raises(
        DataError, match=r"labels of 5 classes lie in \[0, 5\), below 0 .* found 5: do the labels belong"
    ):
        LOSSES[name](draw(), draw(1), tensor([0, 5, -1, 4, 2, 1]))


@pytest.mark.parametrize("target", [tensor([0, 1]), torch.zeros(6), torch.zeros(6, 5)])
def test_labels_are_one_integer_for_each_sample(target):
    with pytest.raises(ShapeError, match=r"logits \(6, 5\) do not fit: give one integer label for each sample"):
        labelled_cross_entropy(draw(), target)


def test_where_looking_would_wait_the_loss_is_nan(monkeypatch):
    """As on a GPU, whose steps must not wait: the training loop names the term."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    index, counted = labelled(tensor([0, 5]), draw()[:2])
    assert index.tolist() == [0, 4]
    assert counted.isnan().tolist() == [False, True]
    assert labelled_cross_entropy(draw()[:2], tensor([0, 5])).isnan()
    assert functional.dkd(draw()[:2], draw(1)[:2], tensor([0, 5])).isnan()


@pytest.mark.parametrize(
    ("make", "terms"),
    [
        (DKDDistiller, ["dkd/target", "dkd/non_target"]),
        (lambda: EGADistiller(6, 8, 5).double(), ["ega/teacher_head"]),
    ],
)
def test_a_distiller_learns_from_the_labelled_samples(make, terms):
    student, teacher = networks(6)
    distiller = make()
    losses = distiller(student, teacher, target=TARGET)
    some = distiller(rows(student, KNOWN), rows(teacher, KNOWN), target=TARGET[KNOWN])
    for term in terms:
        assert_close(losses[term], some[term])
    assert torch.isfinite(distiller(student, teacher, target=NONE).total)
    with pytest.raises(DataError, match="found 7"):
        distiller(student, teacher, target=NONE + 8)


def test_true_labels_of_prg_teach_nothing_where_there_is_none():
    student, teacher = networks(6)
    prg = PRGDistiller(6, 8, 5, labels="label").double()
    found = prg(student, teacher, target=TARGET)["prg/ce"]
    losses = torch.nn.functional.cross_entropy(student.logits[KNOWN], TARGET[KNOWN], reduction="sum")
    assert_close(found, losses / 6)


def test_a_sample_without_a_label_has_no_edge_within_or_between_classes():
    student, teacher = networks(6)
    by_hand = {"same": tensor([0, 0, -1, 1, 1, -1]), "other": tensor([0, 1, -1, 0, 1, -1])}
    for among, target in by_hand.items():
        value = GKDDistiller(among=among)(student, teacher, target=target).total
        alone = tensor([0, 1, 2, 3, 4, 5]) if among == "same" else NONE  # no two of one class; no labels at all
        assert value > 0
        assert GKDDistiller(among=among)(student, teacher, target=alone).total == 0
    assert GKDDistiller(among="same")(student, teacher, target=NONE).total == 0
