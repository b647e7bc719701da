"""EmbeddingHead: the classifier sits on a linear embedding, in any kind of model."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from graphkd.errors import OptionError, TapError
from graphkd.models.embedding_head import EmbeddingHead
from graphkd.models.tap import Tap

MODELS = {
    "linear": lambda: timm.create_model("resnet10t"),
    "linear inside a head": lambda: timm.create_model("convnext_atto"),
    "1x1 convolution": lambda: timm.create_model("dpn48b"),
    "pooled convolution": lambda: torchvision.models.squeezenet1_1(),
    "last of a sequence": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 1000)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_embedding_is_linear_and_under_the_classifier(kind: str) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = Tap(model, mean=False)(images).embedding
        tap = copy.deepcopy(Tap(EmbeddingHead(model, 16, classes=7), mean=False))
        seen = tap(images)
        below = tap.model.get_submodule(f"model.{tap.model._path}.0")
        wanted = before @ below.weight.flatten(1).T + below.bias
    torch.testing.assert_close(seen.embedding, wanted, rtol=1e-3, atol=1e-4)
    assert seen.proxies.shape == (7, 16)
    assert (tap.embedding_dim, tap.num_classes) == (16, 7)
    torch.testing.assert_close(seen.logits, tap.model(images))
    if kind != "pooled convolution":  # a ReLU follows there
        again = seen.embedding @ seen.proxies.T + tap.classifier.bias
        torch.testing.assert_close(seen.logits, again, rtol=1e-3, atol=1e-4)


def test_the_inner_model_stays_an_ordinary_one() -> None:
    model = timm.create_model("resnet10t")
    EmbeddingHead(model, 16, classes=7)
    assert (Tap(model).embedding_dim, model.num_classes) == (16, 7)
    assert [tuple(each.weight.shape) for each in model.get_classifier()] == [(16, 512), (7, 16)]


def test_two_heads_are_refused_until_one_is_named() -> None:
    model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1, num_classes=7)
    with pytest.raises(TapError, match=r"several classifiers \(head, head_dist\)"):
        EmbeddingHead(model, 16, classes=7)
    tap = Tap(EmbeddingHead(model, 16, classes=7, head="head"))
    assert tap(torch.rand(2, 3, 32, 32)).embedding.shape == (2, 16)


@pytest.mark.parametrize(
    ("model", "dim", "error", "message"),
    [
        (nn.Linear(3, 4), 0, OptionError, "at least 1, found dim=0, classes=7"),
        (Tap(nn.Sequential(nn.Flatten(), nn.Linear(3, 4))), 16, TapError, r"tap afterwards, Tap\(EmbeddingHead\(model"),
        (nn.Linear(3, 4), 16, TapError, "bare linear layer"),
    ],
)
def test_what_it_refuses(model: nn.Module, dim: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EmbeddingHead(model, dim, classes=7)
