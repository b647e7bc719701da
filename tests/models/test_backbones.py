"""Students without a classifier: their output is the embedding, and there are no class scores."""

import pytest
import timm
import torch
from torch import nn

from graphkd.distillers.factory import create_distiller, methods_without_classes
from graphkd.errors import CheckpointError, TapError, TeacherError
from graphkd.models.students import create_student
from graphkd.models.tap import Tap
from graphkd.models.weights import load_weights
from graphkd.step import Step
from graphkd.training.run_folder import describe_student


class Square(nn.Module):
    """Takes images of 8 pixels only, and says so."""

    pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def __init__(self, width=5, flat=True):
        super().__init__()
        self.layer, self.norm, self.flat = nn.Linear(192, width), nn.BatchNorm1d(width), flat

    def forward(self, images):
        x = self.norm(self.layer(images.flatten(1)))
        return x if self.flat else x[:, None]


def test_the_output_is_the_embedding():
    model = Square()
    tap, images = Tap(model, head=False).eval(), torch.rand(4, 3, 8, 8)
    found = tap(images)
    assert torch.equal(found.embedding, model((images - 0.5) / 0.5))
    assert (tap.embedding_dim, tap.num_classes, tap.classifier, found.logits, found.proxies) == (
        5,
        None,
        None,
        None,
        None,
    )
    assert int(model.norm.num_batches_tracked) == 0  # the width was found by a copy
    with pytest.raises(TapError, match=r"one vector an image \(b, d\), found \(1, 1, 5\)"):
        Tap(Square(flat=False), head=False)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("test_efficientnet", 256),
        ("test_vit", 64),
        ("torchvision/squeezenet1_1", 512),
        ("torchvision/mobilenet_v3_small", 1024),
    ],
)
def test_any_network_without_its_classifier(name, width):
    student, classifier = create_student(name, 0), create_student(name, 3)
    assert (student.embedding_dim, student.num_classes) == (width, None)
    assert classifier.embedding_dim == width
    missing = {each for each in classifier.state_dict() if each not in student.state_dict()}
    assert {each.rsplit(".", 1)[0] for each in missing} == {f"model.{classifier.classifier_path}"}
    about = describe_student(student, None, 64)
    assert (about["student"], about["num_classes"], about["classes"]) == (name, 0, [])


def test_weights_of_a_backbone_fit_timm(tmp_path):
    from safetensors.torch import save_file

    student = create_student("test_efficientnet", 0)
    save_file(student.model.state_dict(), tmp_path / "model.safetensors")
    again = timm.create_model("test_efficientnet", num_classes=0, checkpoint_path=tmp_path / "model.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.eval()(images), student.model.eval()(images))
    assert load_weights(create_student("test_efficientnet", 0), tmp_path / "model.safetensors") == []


def test_a_classifier_starts_from_a_backbone(tmp_path):
    from safetensors.torch import save_file

    save_file(create_student("test_efficientnet", 0).model.state_dict(), tmp_path / "model.safetensors")
    student = create_student("test_efficientnet", 3)
    assert load_weights(student, tmp_path / "model.safetensors") == ["classifier.weight", "classifier.bias"]
    with pytest.raises(CheckpointError, match="2 missing"):
        load_weights(student, tmp_path / "model.safetensors", other_classes=False)


def test_transformers_are_refused():
    with pytest.raises(TapError, match="choose a network of timm"):
        create_student("hf:nowhere", 0)


def test_the_methods_that_need_no_classes_are_found():
    found = methods_without_classes()
    assert {"mimic", "combined", "rkd", "sp", "ega", "cc", "pkt", "at", "fitnet", "crg", "fsp"} <= {*found}
    assert not {"prg", "kd", "dkd", "dist", "eikd"} & {*found}


class Backbone:
    """A teacher as a method sees it."""

    embedding_dim, num_classes = 7, None


@pytest.mark.parametrize(("name", "terms"), [("mimic", {"mimic/feature"}), ("ega", {"ega/node", "ega/edge"})])
def test_terms_on_classes_are_left_out_between_backbones(name, terms):
    from graphkd.features import Features

    student = Tap(Square(), head=False)
    distiller = create_distiller(name, student, Backbone())
    losses = Step(student, distiller)(torch.rand(6, 3, 8, 8), Features(torch.rand(6, 7)))
    assert {*losses} == terms
    losses.total.backward()
    assert student.model.layer.weight.grad is not None


def test_a_classifier_still_needs_a_term_on_its_classes():
    with pytest.raises(TeacherError, match="mimicking needs classes"):
        create_distiller("mimic", create_student("test_efficientnet", 3), Backbone())
