"""Images in [0, 1]: what is refused on both sides, and when the values are looked at."""

import logging

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

from graphkd.errors import DataError, ShapeError
from graphkd.models.embedding_head import EmbeddingHead
from graphkd.models.pixels import RangeCheck
from graphkd.models.tap import Tap
from graphkd.teachers.classifier import ClassifierTeacher

BYTES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
GOOD = BYTES / 255
NORMALISED = (GOOD - 0.45) / 0.22


@pytest.fixture(params=["student", "teacher"])
def network(request):
    model = timm.create_model("test_resnet", num_classes=3)
    return Tap(model) if request.param == "student" else ClassifierTeacher(model, image_size=32)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (BYTES, ShapeError, r"in \[0, 1\], found \(2, 3, 32, 32\) torch.uint8: divide bytes by 255"),
        (GOOD[:, :1], ShapeError, r"expected images \(b, 3, h, w\).*repeat a grey channel 3 times \(or give Tap mean="),
        (GOOD[0], ShapeError, "add the batch axis to a single image"),
        (BYTES.float(), DataError, r"expected images in \[0, 1\], found values from 0 to 255: divide bytes by 255"),
        (NORMALISED, DataError, r"found values from -2.05 to 2.5: .*do not normalise: graphkd does it"),
    ],
)
def test_student_and_teacher_refuse_alike(network, images, error, message):
    with pytest.raises(error, match=message):
        network(images)
    network(GOOD)
    with pytest.raises(error, match=message):  # on a CPU every batch is looked at
        network(images)


def test_rounding_and_nan_pass(network):
    network(GOOD + 5e-4)
    assert network(torch.where(GOOD > 0.9, torch.nan, GOOD)).logits.isnan().any()


def test_a_network_that_normalises_itself_takes_any_floats():
    for tap in (Tap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))), Tap(timm.create_model("test_resnet"), mean=False)):
        images = torch.randn(2, 3, 2, 2) if tap.embedding_dim == 12 else NORMALISED
        assert tap(images).logits is not None
        with pytest.raises(ShapeError, match="divide bytes by 255"):
            tap(BYTES)


def test_without_training_or_gradient_a_student_warns_once(caplog):
    tap = Tap(timm.create_model("test_resnet").eval())
    with torch.no_grad(), caplog.at_level(logging.WARNING, logger="graphkd"):
        tap(NORMALISED), tap(NORMALISED)
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "expected images in [0, 1]" in caplog.text


def test_elsewhere_than_on_a_cpu_only_the_first_batch_is_read():
    class OnDevice(torch.Tensor):  # says that it lies on a GPU, where reading a value waits
        device = torch.device("cuda")
        reads = 0

        def aminmax(self):
            OnDevice.reads += 1
            return torch.tensor(0.0), torch.tensor(1.0)

    check = RangeCheck()
    for _ in range(3):
        check(torch.zeros(1, 3, 2, 2).as_subclass(OnDevice))
    assert OnDevice.reads == 1


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: EmbeddingHead(model, 8, classes=3)])
def test_a_tap_normalises_as_the_network_says(wrap):
    model = wrap(timm.create_model("test_vit", img_size=32, num_classes=3)).eval()
    config = model.pretrained_cfg
    tap = Tap(model)
    assert_close((tap.mean.flatten(), tap.std.flatten()), (torch.tensor(config["mean"]), torch.tensor(config["std"])))
    with torch.no_grad():
        assert_close(tap(GOOD).logits, model((GOOD - tap.mean) / tap.std))
        assert_close(Tap(model, mean=False)(GOOD).logits, model(GOOD))
        own = Tap(model, mean=[0.1, 0.2, 0.3], std=[0.5, 1.0, 2.0])(GOOD)
        scale = (torch.tensor(each).view(3, 1, 1) for each in ([0.1, 0.2, 0.3], [0.5, 1.0, 2.0]))
        assert_close(own.logits, model((GOOD - next(scale)) / next(scale)))
    assert list(tap.state_dict()) == [f"model.{name}" for name in model.state_dict()]


@pytest.mark.parametrize("around", [nn.Sequential, nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_a_network_in_a_wrapper_is_normalised_too(around):
    network = timm.create_model("test_resnet", num_classes=3).eval()
    assert_close(Tap(around(network))(GOOD).logits, Tap(network)(GOOD).logits)


def test_a_network_within_another_is_named_and_left_alone(caplog):
    whole = nn.Sequential(timm.create_model("test_resnet", num_classes=4), nn.Linear(4, 3))
    assert Tap(whole).mean is None
    assert "a network inside Sequential says the mean" in caplog.text
    caplog.clear()
    Tap(whole, mean=False)
    assert not caplog.text
