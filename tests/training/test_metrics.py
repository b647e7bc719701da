"""Scores of students and teachers."""

import pytest
import torch
from torch import nn, tensor

from graphkd.data.views import Batch
from graphkd.errors import MissingFeatureError, NonFiniteError, ShapeError
from graphkd.features import Features
from graphkd.training.metrics import Counts, evaluate


def test_scores_by_hand():
    logits = torch.eye(7)[[0, 1, 2, 2]] * 50.0
    logits[3, 6] = 49.0  # second of seven
    counts = Counts(7)
    counts.update(logits[:2], tensor([0, 1]))
    counts.update(logits[2:], tensor([2, 6]))
    scores = counts.scores()
    assert (scores.top1, scores.top5, scores.images) == (0.75, 1.0, 4)
    assert scores.mean_class == 0.75  # classes 0, 1, 2 right, 6 wrong, the others never occur
    assert scores.confusion[6, 2] == 1
    assert scores.confusion.sum() == 4
    # three at confidence 1 and right, one at 1 / (1 + 1/e) and wrong
    assert scores.calibration_error == pytest.approx(0.7310586 / 4, abs=1e-6)
    assert scores.numbers().keys() == {"top1", "top5", "mean_class", "calibration_error"}


def test_few_classes_have_no_top5():
    counts = Counts(3)
    counts.update(torch.eye(3), torch.arange(3))
    assert counts.scores().top5 is None
    assert "top5" not in counts.scores().numbers()


def batches(targets=True, offset=0):
    for start in range(0, 6, 4):
        index = torch.arange(start, min(start + 4, 6))
        images = torch.nn.functional.one_hot(index % 3, 3).float()[..., None, None]
        yield Batch(images, images, index, index % 3 + offset if targets else None)


def test_evaluate_scores_in_eval_mode_and_gives_every_mode_back():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.frozen = nn.BatchNorm2d(3), nn.Dropout()

        def forward(self, images):
            assert not self.training
            assert not torch.is_grad_enabled()
            return Features(logits=self.norm(images)[..., 0, 0])

    net = Net()
    net.frozen.eval()
    scores = evaluate(net, batches())
    assert scores.top1 == 1.0
    assert scores.images == 6
    assert net.training
    assert net.norm.training
    assert not net.frozen.training
    assert net.norm.running_mean.abs().max() == 0
    with pytest.raises(MissingFeatureError):
        evaluate(net, batches(targets=False))
    assert net.training


def raw(images):
    return images[..., 0, 0]


BAD = {
    "labels": (lambda: evaluate(raw, batches(targets=False)), MissingFeatureError, r"Views\(..., labels=True\)"),
    "images": (lambda: evaluate(raw, []), MissingFeatureError, "loader of labelled images is empty"),
    "logits": (
        lambda: evaluate(lambda images: Features(embedding=raw(images)), batches()),
        MissingFeatureError,
        r"scoring needs features\.logits",
    ),
    "classes": (lambda: evaluate(raw, batches(offset=1)), ShapeError, "labels 1 to 3 do not fit 3 logits"),
    "rows": (
        lambda: Counts(3).update(torch.zeros(2, 3), torch.zeros(4)),
        ShapeError,
        r"expected logits \(4, 3\) for 4 labels, found \(2, 3\)",
    ),
    "finite": (lambda: evaluate(lambda images: raw(images) / 0.0, batches()), NonFiniteError, "6 of 6 rows of logits"),
}


@pytest.mark.parametrize(("act", "error", "message"), BAD.values(), ids=BAD)
def test_scoring_refuses_what_it_cannot_score(act, error, message):
    with pytest.raises(error, match=message):
        act()
