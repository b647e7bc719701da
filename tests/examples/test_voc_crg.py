"""The detectors of the detection example."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))  # it imports its neighbour
    yield import_module("voc_crg")
    sys.path.pop(0)


def norms(module):
    return {type(each) for each in module.modules() if isinstance(each, nn.BatchNorm2d | FrozenBatchNorm2d)}


def test_a_backbone_without_weights_trains_its_batchnorm(example):
    detector = example.resnet_detector("resnet18", 2, None).train()
    assert norms(detector) == {nn.BatchNorm2d}
    norm = detector.backbone.body.bn1
    detector.backbone(torch.randn(2, 3, 64, 64))
    assert norm.weight.requires_grad
    assert norm.num_batches_tracked == 1


def test_a_pretrained_backbone_keeps_its_batchnorm(example, monkeypatch):
    asked = []

    def backbone(**options):
        asked.append(options)
        return example.BackboneWithFPN(nn.Sequential(nn.Conv2d(3, 4, 1)), {"0": "0"}, [4], 8)

    monkeypatch.setattr(example, "resnet_fpn_backbone", backbone)
    example.resnet_detector("resnet18", 2, "DEFAULT")
    assert (asked[0]["weights"], asked[0]["norm_layer"]) == ("DEFAULT", FrozenBatchNorm2d)
