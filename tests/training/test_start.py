"""A new run from the weights of an earlier one."""

import pytest
import timm
import torch

from graphkd.errors import CheckpointError
from graphkd.models.tap import Tap
from graphkd.step import Step
from graphkd.training.checkpoint import Checkpoints, student_weights
from graphkd.training.config import TrainConfig
from graphkd.training.start import start_from
from tests.training.tiny import Mimic, Student, trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trainer(tmp_path_factory.mktemp("runs") / "one", ema=0.9).fit().run


def test_student_and_method_are_those_of_the_run(run):
    step = Step(Student(), Mimic())
    assert start_from(step, run) == []
    average = student_weights(run)
    assert all(torch.equal(value, average[name]) for name, value in step.student.state_dict().items())
    trained = Checkpoints(run / "checkpoints").newest()[1]["step"]
    for name, value in step.distillers.state_dict().items():
        assert torch.equal(value, trained[f"distillers.{name}"])
    assert not torch.equal(average["head.weight"], trained["student.head.weight"])  # the average, not the last


def test_a_method_that_the_run_did_not_have_starts_fresh(run):
    class Wide(Mimic):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Linear(8, 5)

    step = Step(Student(), Wide())
    before = step.distillers.state_dict()["0.project.weight"].clone()
    assert start_from(step, run) == ["distillers.0.project.weight", "distillers.0.project.bias"]
    assert torch.equal(step.distillers.state_dict()["0.project.weight"], before)


def test_another_student_and_a_folder_without_a_checkpoint_are_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match="belongs to another model"):
        start_from(Step(Student(width=9), Mimic()), run)
    with pytest.raises(CheckpointError, match=r"of \d+ tensors .* missing"):
        start_from(Step(Tap(timm.create_model("test_resnet", num_classes=3)), Mimic()), run)
    with pytest.raises(CheckpointError, match="holds no checkpoint: is it the folder of a run"):
        start_from(Step(Student(), Mimic()), tmp_path)


def test_more_epochs_are_refused_with_the_way_to_do_it():
    remedy = "for which its learning rate was planned: start a new run with its weights"
    with pytest.raises(CheckpointError, match=f"epochs was 100, now 200, {remedy}"):
        TrainConfig.check_resume(TrainConfig().to_dict(), TrainConfig(epochs=200).to_dict(), "run")
