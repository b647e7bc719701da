import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd.errors import DataError, MissingFeatureError, TapError, TeacherError, UnknownNameError
from graphkd.teachers.classifier import ClassifierTeacher

PIXELS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture
def resnet():
    import timm

    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=5)


def vit(**options):
    import timm

    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=32, **options)


def test_features_are_those_of_the_network(resnet, images):
    teacher = ClassifierTeacher(resnet, image_size=32)
    got = teacher(images)
    mean, std = (torch.tensor(resnet.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = (images - mean) / std
    with torch.no_grad():
        assert_close(got.logits, resnet(pixels))
        assert_close(got.embedding, resnet.forward_head(resnet.forward_features(pixels), pre_logits=True))
        assert_close(got.proxies, resnet.fc.weight)
        assert_close(got.proxy_logits, resnet.fc(resnet.fc.weight))
    assert (teacher.embedding_dim, teacher.num_classes) == (512, 5)
    assert not got.proxies.requires_grad


def test_own_module():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).train()
    teacher = ClassifierTeacher(model, **PIXELS, classes=["a", "b"], head="3")
    images = torch.rand(2, 3, 9, 11)
    assert_close(teacher(images).logits, model((images - 0.5) / 0.25))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_sizes(resnet):
    assert ClassifierTeacher(resnet).preprocess.size == (176, 176)
    assert ClassifierTeacher(vit(num_classes=5)).preprocess.size == (32, 32)
    assert ClassifierTeacher(vit(num_classes=5))(torch.rand(2, 3, 40, 50)).logits.shape == (2, 5)


def test_network_without_classifier(images):
    model = vit(num_classes=0)
    teacher = ClassifierTeacher(model, **PIXELS)
    got = teacher(images)
    with torch.no_grad():
        assert_close(got.embedding, model((images - 0.5) / 0.25))
    assert (teacher.embedding_dim, teacher.num_classes, teacher.classes) == (got.embedding.shape[1], None, None)
    assert got.logits is got.proxies is got.proxy_logits is got.maps is None
    with pytest.raises(MissingFeatureError, match=r"prg needs features.proxies, .*without text tower or classifier"):
        got.need("proxies", "prg")
    assert teacher.fingerprint() == ClassifierTeacher(model, **PIXELS).fingerprint()


def test_network_without_classifier_by_argument(resnet, images):
    backbone = nn.Sequential(resnet.conv1, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    got = ClassifierTeacher(backbone, **PIXELS, head=False)(images)
    assert_close(got.embedding, backbone((images - 0.5) / 0.25))


def test_maps_and_tokens(resnet, images):
    got = ClassifierTeacher(resnet, image_size=32, maps=["layer3", "layer4"])(images)
    assert {name: x.shape[1] for name, x in got.maps.items()} == {"layer3": 256, "layer4": 512}
    tokens = ClassifierTeacher(vit(num_classes=0), tokens=["blocks.1"])(images).tokens
    assert list(tokens) == ["blocks.1"]
    assert tokens["blocks.1"].ndim == 3


def test_half_precision_gives_float32(resnet, images):
    half = ClassifierTeacher(resnet, image_size=32, precision="bf16")(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full = ClassifierTeacher(resnet, image_size=32)(images)
    assert {half.logits.dtype, half.embedding.dtype, half.proxies.dtype} == {torch.float32}
    assert not torch.equal(half.logits, full.logits)
    assert_close(full.logits, ClassifierTeacher(resnet, image_size=32)(images).logits, rtol=0, atol=0)


def test_fingerprint_tells_what_differs(resnet):
    base = ClassifierTeacher(resnet).fingerprint()
    json.dumps(base)

    def changed(**options):
        other = ClassifierTeacher(resnet, **options).fingerprint()
        return {key for key in base if base[key] != other[key]}

    assert changed() == set()
    assert changed(image_size=64) == {"preprocess"}
    assert changed(classes=list("abcde")) == {"classes"}
    assert changed(precision="fp16") == {"precision"}
    assert changed(maps=["layer4"]) == {"parts"}
    with torch.no_grad():
        resnet.fc.bias += 1
    assert changed() == {"weights"}


def plain(*layers):
    return lambda: nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (
            plain(nn.Flatten(), nn.Linear(12, 2)),
            {},
            TeacherError,
            "normalization of Sequential is not known: give the mean=",
        ),
        (
            plain(nn.Flatten(), nn.Linear(12, 5)),
            PIXELS | {"classes": ["a", "b"]},
            DataError,
            "2 class names and 5 logits",
        ),
        (lambda: vit(num_classes=0), {"classes": ["a", "b"]}, DataError, "2 class names and no logits"),
        (plain(nn.Conv2d(3, 4, 3), nn.ReLU()), PIXELS, TapError, "head=False for a network without classifier"),
        (
            plain(nn.Conv2d(3, 4, 3)),
            PIXELS | {"head": False},
            TeacherError,
            r"one vector per image \(b, d\), found \(1, 4, 222, 222\): let it pool",
        ),
        (
            plain(nn.Flatten(), nn.Linear(12, 2)),
            PIXELS | {"precision": "fp8"},
            UnknownNameError,
            "unknown precision 'fp8'",
        ),
    ],
)
def test_messages(model, options, error, message):
    with pytest.raises(error, match=message):
        ClassifierTeacher(model(), **options)
