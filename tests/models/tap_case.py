"""Networks, and what a right Tap says of them."""

from typing import Any

import timm
import torch
import torchvision
from torch import nn

from graphkd.features import Features
from graphkd.models.tap import Tap

CLASSES = 7


def make(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("tv:"):
        model: nn.Module = torchvision.models.get_model(name[3:], num_classes=CLASSES, **options)
    else:
        model = timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)
    return model.eval()


def assert_right(tap: Tap, images: torch.Tensor, width: int, name: str = "") -> Features:
    seen: Features = tap(images)
    weight = tap.classifier.weight.flatten(1)
    bias = torch.zeros(CLASSES) if tap.classifier.bias is None else tap.classifier.bias
    assert (tap.embedding_dim, tap.num_classes) == (width, CLASSES)
    assert seen.tensor("embedding", "test").shape == (len(images), width)
    torch.testing.assert_close(seen.logits, tap.model(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.proxies, weight)
    torch.testing.assert_close(seen.proxy_logits, weight @ weight.T + bias, rtol=1e-4, atol=1e-5)
    if "squeezenet" not in name:  # a ReLU and a pooling follow its convolution
        again = seen.embedding @ weight.T + bias
        torch.testing.assert_close(seen.logits, again, rtol=1e-3, atol=1e-4)
    return seen
