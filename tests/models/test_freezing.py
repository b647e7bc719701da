"""Frozen layers keep weights and statistics, whoever trains the student."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from graphkd import Tap, create_student
from graphkd.errors import OptionError
from graphkd.models.freezing import freeze
from tests.training import tiny


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.layer2 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.bn1(self.conv1(x)))).mean((2, 3)))


@pytest.mark.parametrize(("patterns", "names"), [
    (["conv1"], {"conv1.weight", "conv1.bias"}),
    (["layer1"], {"layer1.0.weight", "layer1.0.bias", "layer1.1.weight", "layer1.1.bias"}),
    (["layer[12].1"], {"layer1.1.weight", "layer1.1.bias", "layer2.1.weight", "layer2.1.bias"}),
    (["fc.bias"], {"fc.bias"}),
    (["*.weight"], {"conv1.weight", "bn1.weight", "layer1.0.weight", "layer1.1.weight", "layer2.0.weight", "layer2.1.weight", "fc.weight"}),
])  # fmt: skip
def test_patterns(patterns, names):
    student = Tap(Net())
    assert set(freeze(student, patterns)) == names
    assert {name for name, each in student.model.named_parameters() if not each.requires_grad} == names


def moved(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_statistics_stay_in_train_mode_and_in_copies():
    student = Tap(Net())
    freeze(student, ["bn1", "layer1"])
    for each in (student, deepcopy(student)):
        before = deepcopy(each.train().model.state_dict())
        each(torch.rand(4, 3, 8, 8))
        assert moved(each.model, before) == {
            f"layer2.1.{x}" for x in ("running_mean", "running_var", "num_batches_tracked")
        }
    assert deepcopy(student).model.bn1.train.args[0] is not student.model.bn1


def test_timms_normalisation_with_activation():
    student = create_student("test_efficientnet", 3)
    assert freeze(student, ["conv_stem", "bn1", "blocks.0"])
    student.train()
    assert not student.model.bn1.training
    assert student.model.blocks[1].training
    assert student.model.bn1.act.training


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["conv1", "layer3"], "the pattern 'layer3' matches no layer of Net that has parameters; near it: layer2"),
        (["*"], r"freeze=\('\*',\) leaves no parameter of the student to train"),
    ],
)
def test_patterns_that_are_refused(patterns, message):
    with pytest.raises(OptionError, match=message):
        freeze(Tap(Net()), patterns)


def test_the_trainer_leaves_them_as_they_are(tmp_path):
    trainer = tiny.trainer(tmp_path, freeze=("body",))
    before = deepcopy(trainer.step.student.state_dict())
    trainer.fit()
    assert moved(trainer.step.student, before) == {"head.weight", "head.bias"}
    assert trainer.options["freeze"] == ["body"]
