"""Tap over the model families of timm and torchvision."""

import copy
from typing import Any

import pytest
import torch

from graphkd.errors import TapError
from graphkd.models.tap import Tap
from tests.models.tap_case import assert_right, make

# name, image size, classifier width, keywords; torchvision names begin with "tv:"
FAMILIES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("resnet10t", 64, 512, {}),
    ("vgg11", 32, 4096, {"mlp_ratio": 0.05}),
    ("mobilenetv2_035", 64, 1280, {}),
    ("mobilenetv3_small_050", 64, 1024, {}),
    ("efficientnet_b0", 64, 1280, {}),
    ("convnext_atto", 64, 320, {}),
    ("vit_tiny_patch16_224", 32, 192, {"img_size": 32, "depth": 2}),
    ("dla46_c", 64, 256, {}),
    ("dpn48b", 64, 832, {}),
    ("regnetx_002", 64, 368, {}),
    ("densenet121", 64, 32, {"growth_rate": 8, "block_config": (2, 2, 2, 2)}),
    ("inception_v3", 96, 2048, {}),
    ("swin_tiny_patch4_window7_224", 56, 768, {"img_size": 56, "depths": (1, 1, 1, 1)}),
    ("maxvit_rmlp_pico_rw_256", 64, 256, {"img_size": 64}),
    ("ghostnet_050", 64, 1280, {}),
    ("nfnet_l0", 64, 2304, {}),
    ("xception41", 64, 2048, {}),
    ("hrnet_w18_small", 64, 2048, {}),
    ("coat_tiny", 32, 152, {"img_size": 32}),
    ("edgenext_xx_small", 64, 168, {}),
    ("mixer_s32_224", 32, 512, {"img_size": 32}),
    ("eva02_tiny_patch14_224", 28, 192, {"img_size": 28, "depth": 2}),
    ("beit_base_patch16_224", 32, 768, {"img_size": 32, "depth": 1}),
    ("mobilevit_xxs", 64, 320, {}),
    ("poolformer_s12", 64, 512, {}),
    ("resmlp_12_224", 32, 384, {"img_size": 32}),
    ("fastvit_t8", 64, 768, {}),
    ("repvgg_a0", 64, 1280, {}),
    ("tv:shufflenet_v2_x0_5", 64, 1024, {}),
    ("tv:squeezenet1_1", 64, 512, {}),
    ("tv:mnasnet0_5", 64, 1280, {}),
    ("tv:alexnet", 64, 4096, {}),
    ("tv:mobilenet_v3_small", 64, 1024, {}),
    ("tv:googlenet", 64, 1024, {"aux_logits": False, "init_weights": False}),
]


COMPILED = {"resnet10t", "vit_tiny_patch16_224", "dpn48b", "tv:squeezenet1_1"}
QUICK = {  # one of each kind of classifier; the others with the slow tests
    "resnet10t", "vgg11", "mobilenetv3_small_050", "vit_tiny_patch16_224", "dla46_c", "swin_tiny_patch4_window7_224",
    "ghostnet_050", "mixer_s32_224", "mobilevit_xxs", "tv:squeezenet1_1", "tv:alexnet", "tv:mobilenet_v3_small",
}  # fmt: skip
ROWS = [pytest.param(*row, id=row[0], marks=[] if row[0] in QUICK else [pytest.mark.slow]) for row in FAMILIES]


@pytest.mark.parametrize(("name", "size", "width", "options"), ROWS)
def test_family(name: str, size: int, width: int, options: dict[str, Any]) -> None:
    tap = Tap(make(name, **options), mean=False)
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        seen = assert_right(tap, images, width, name)
        assert seen.embedding is not None
        assert seen.embedding.std() > 0
        twin = copy.deepcopy(tap)
        twin.classifier.weight.mul_(2)
        assert_right(twin, images, width, name)  # the copy reads its own weight ...
        assert_right(tap, images, width, name)  # ... and the original still its own
        if name in COMPILED:
            compiled = torch.compile(twin, fullgraph=True, backend="eager")(images)
            torch.testing.assert_close(compiled.proxies, 2 * seen.proxies)
            torch.testing.assert_close(compiled.embedding, seen.embedding, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, "depth": 2}),
        ("levit_128s", 64, {"img_size": 64}),
        ("efficientformer_l1", 224, {}),
    ],
)
def test_two_averaged_heads_are_named_and_one_can_be_chosen(name: str, size: int, options: dict[str, Any]) -> None:
    model = make(name, **options)
    with pytest.raises(TapError, match=r"several classifiers \(head[.\w]*, head_dist[.\w]*\).*head='head"):
        Tap(model)
    tap = Tap(model, head="head_dist", mean=False)
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        seen = tap(images)
        torch.testing.assert_close(seen.logits, model(images))  # the average of both heads
        torch.testing.assert_close(seen.proxies, dict(model.named_modules())[tap._head.path].weight)
    assert "head_dist" in tap._head.path
    assert seen.embedding.shape == (2, tap.embedding_dim)
