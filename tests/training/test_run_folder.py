"""What a run folder tells of its run."""

import json

import pytest
import timm
import torch
from torchvision.models import resnet18

from graphkd.cli.networks import open_student
from graphkd.data.class_names import Classes
from graphkd.models.students import create_student
from graphkd.models.tap import Tap
from graphkd.step import Step
from graphkd.training.loop import Trainer
from graphkd.training.run_folder import describe_student
from tests.training import tiny

STUDENTS = {
    "create_student": (lambda: create_student("test_resnet", 3), "test_resnet"),
    "a tap of timm": (lambda: Tap(timm.create_model("test_resnet", num_classes=3)), "test_resnet"),
    "torchvision by name": (lambda: create_student("torchvision/resnet18", 3), "torchvision/resnet18"),
    "a tap of torchvision": (lambda: Tap(resnet18(num_classes=3)), None),
    "another normalisation": (lambda: Tap(timm.create_model("test_resnet", num_classes=3), mean=False), None),
    "a changed network of timm": (
        lambda: Tap(timm.create_model("test_resnet", num_classes=3, act_layer=torch.nn.LeakyReLU)),
        None,
    ),
}


@pytest.mark.parametrize(("make", "name"), STUDENTS.values(), ids=STUDENTS)
def test_a_student_is_named_where_its_name_builds_it_again(make, name):
    student = make()
    before = torch.get_rng_state()
    about = describe_student(student, None, (8, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert (about["student"], about["num_classes"], about["size"]) == (name, 3, 8)
    assert about["classes"] == ["0", "1", "2"]
    assert ("module" in about) == (name is None)
    assert about["mean"] == (None if student.mean is None else student.mean.flatten().tolist())


def test_an_own_network_is_described_by_its_class(tmp_path):
    tiny.trainer(tmp_path, epochs=1).fit()
    about = json.loads((tmp_path / "student.json").read_text())
    assert about["student"] is None
    assert about["module"] == "tests.training.tiny.Student"


def test_a_trainer_leaves_a_student_that_the_commands_open(tmp_path):
    student = create_student("test_resnet", 3)
    step = Step(student, tiny.Mimic(student.embedding_dim))
    result = Trainer(step, tiny.views(), tiny.teacher, tiny.config(epochs=1), tmp_path).fit()
    opened, about = open_student(tmp_path)
    assert (Classes(about["classes"]), about["size"]) == (["red", "green", "blue"], 8)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(opened(images).logits, result.model.eval()(images).logits)
