"""EIKD: which classes and labels it learns from."""

import torch
from torch.testing import assert_close

from graphkd.distillers.eikd.class_dropping import DatasetClasses, TopK
from graphkd.distillers.eikd.distiller import EIKDDistiller
from graphkd.distillers.eikd.noise_matrix import NoiseMatrix
from graphkd.functional import class_dropped_kd
from tests.distillers.eikd_case import features, pair


def test_labels_by_cross_entropy_and_by_noise_matrix():
    student, teacher = features(grad=True), features(seed=1)
    label = teacher.logits.argmax(-1)
    plain = EIKDDistiller(5, 5, 12, label_weight=1.0)(student, teacher)["eikd/label"]
    assert_close(plain, torch.nn.functional.cross_entropy(student.logits, label))
    noise = NoiseMatrix(12, accuracy=0.9)
    assert_close(noise.matrix().sum(-1), torch.ones(12))
    assert_close(noise.matrix().diagonal(), torch.full((12,), 0.9))
    loss = EIKDDistiller(5, 5, 12, label_weight=1.0, labels=noise)(student, teacher)["eikd/label"]
    q = torch.full((12, 12), 0.1 / 11, dtype=torch.float64).fill_diagonal_(0.9)
    assert_close(loss, torch.nn.functional.nll_loss((student.logits.softmax(-1) @ q).log(), label), rtol=1e-6, atol=0)
    loss.backward()
    assert noise.weight.grad.abs().sum() > 0
    assert (noise.weight.grad.diagonal() == 0).all()
    assert not list(EIKDDistiller(5, 5, 12, labels=NoiseMatrix(12, 0.9)).parameters())  # no weight, no parameter


def test_a_batch_whose_classes_are_all_dropped_is_zero_with_a_graph():
    student, teacher = pair()
    eikd = EIKDDistiller(5, 7, 12, drop=DatasetClasses(torch.zeros(12, dtype=torch.bool)), implicit_weight=0.0).double()
    losses = eikd(student, teacher)
    losses.total.backward()
    assert losses["eikd/kd"] == 0
    assert (student.logits.grad == 0).all()
    assert eikd.classes.single_share == 0
    one = EIKDDistiller(5, 7, 12, drop=TopK(1)).double()
    assert one(student, teacher)["eikd/kd"] == 0
    assert one.classes.single_share == 1


def test_one_dropped_sample_leaves_the_mean():
    student, teacher = features(), features(seed=1)
    keep = torch.ones(12, dtype=torch.bool)
    best = teacher.logits.argmax(-1)
    keep[best[0]] = False
    rest = best != best[0]
    found = EIKDDistiller(5, 5, 12, drop=DatasetClasses(keep))(student, teacher)["eikd/kd"]
    expected = class_dropped_kd(student.logits[rest], teacher.logits[rest], keep.expand(int(rest.sum()), 12), 4.0)
    assert_close(found, expected)
