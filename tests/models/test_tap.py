"""Tap: heads, maps and tokens, copies, torch.compile, and what it refuses."""

import copy
import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from graphkd.errors import OptionError, TapError
from graphkd.models.embedding_head import EmbeddingHead
from graphkd.models.tap import Tap
from tests.models.tap_case import CLASSES, assert_right, make


class Net(nn.Module):
    """Layers by names that nobody knows, and what the network does with them."""

    def __init__(self, run: Callable[[Any, torch.Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, images: torch.Tensor) -> Any:
        return self.run(self, images)


def plain(rows: int = CLASSES, spare: int = 3, run: Callable[[Any, torch.Tensor], Any] | None = None) -> Net:
    body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = {"body": body, "first": nn.Linear(5, rows), "second": nn.Linear(5, spare)}
    return Net(run or (lambda net, x: net.first(net.body(x))), **layers)


def tall() -> Net:
    """A map with as many rows as channels, and half as many columns."""
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=(2, 1), padding=1), nn.ReLU())
    return Net(lambda net, x: net.fc(net.stem(x).mean((2, 3))), stem=stem, fc=nn.Linear(32, CLASSES))


def square() -> nn.Module:
    """Its first map is (b, 96, 96, 96): the shape does not tell where the channels are."""
    return timm.create_model("swin_tiny_patch4_window7_224", img_size=384, depths=(1, 1, 1, 1)).eval()


def adds() -> Net:
    """Changes what its convolution returned, without a module that says so."""
    layers = {"conv": nn.Conv2d(3, 4, 3), "fc": nn.Linear(4, CLASSES)}
    return Net(lambda net, x: net.fc(net.conv(x).add_(1).mean((2, 3))), **layers)


def sequence() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, CLASSES, bias=False))


def named() -> nn.Sequential:
    layers = {"conv": nn.Conv2d(3, 5, 3), "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict([*layers.items(), ("fc", nn.Linear(5, CLASSES))]))


def dense() -> Net:
    """Its classifier runs at every position."""
    return Net(lambda net, x: net.fc(x.flatten(2).transpose(1, 2)).mean(1), fc=nn.Linear(3, CLASSES))


@pytest.mark.parametrize(("build", "head"), [(sequence, None), (plain, "first")])
def test_own_networks(build: Callable[[], nn.Module], head: str | None) -> None:
    assert_right(Tap(build(), head=head), torch.rand(2, 3, 8, 8), 5)


TWICE = "was called more than once in one forward.*name a module that is called once"


@pytest.mark.parametrize(
    ("build", "options", "error", "message"),
    [
        (lambda: plain(spare=CLASSES), {}, TapError, r"several classifiers \(first, second\)"),
        (plain, {}, TapError, r"expected logits \(b, 3\).*'second' has 3 rows.*found \(2, 7\)"),
        (lambda: plain(spare=CLASSES), {"head": "second"}, TapError, "module 'second' was not called"),
        (plain, {"head": "frist"}, TapError, "no module 'frist'; near it: first"),
        (plain, {"head": "body"}, TapError, "no classifier at 'body': expected a Linear"),
        (lambda: nn.Sequential(nn.Flatten()), {}, TapError, "Sequential has no classifier: expected a Linear"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), {}, TapError, "no width yet: run the model once"),
        (
            lambda: timm.create_model("resnet10t", num_classes=0),
            {"head": "fc"},
            TapError,
            "ResNet has no classifier at 'fc'.*num_classes > 0",
        ),
        (
            lambda: make("tv:googlenet", aux_logits=True, init_weights=False).train(),
            {},
            TapError,
            "return a tensor of logits, found GoogLeNetOutputs: switch auxiliary",
        ),
        (
            lambda: plain(run=lambda net, x: (net.first(net.body(x)), {"feats": [net.body[0](x)]})),
            {"head": "first"},
            TapError,
            "tensor of logits, found tuple: .* needs no Tap but a module that makes Feat",
        ),
        (dense, {}, TapError, r"\(2, 3\), one vector per image, found \(2, 4096, 3\)"),
        (lambda: make("tv:resnet18"), {"maps": ["layer1.0.relu"]}, TapError, f"module 'layer1.0.relu' {TWICE}"),
        (
            lambda: plain(run=lambda net, x: net.first(net.body(x)) + net.first(net.body(x.flip(-1)))),
            {"head": "first"},
            TapError,
            f"module 'first' {TWICE}",
        ),
        (named, {"maps": ["flatten"]}, TapError, r"a map \(b, c, h, w\) from module 'flatten', found \(2, 5\)"),
        (named, {"tokens": ["conv"]}, TapError, r"tokens \(b, n, d\) from module 'conv', found \(2, 5, 62, 62\)"),
        (named, {"maps": ["conv9"]}, TapError, "no module 'conv9'; near it: .*conv"),
        (named, {"maps": "conv"}, OptionError, "sequence of module paths, found the string 'conv'"),
        (named, {"mean": [0.5]}, OptionError, "mean and std need one value per channel"),
        (named, {"mean": False, "std": [1.0]}, OptionError, "mean and std need one value per channel"),
        (named, {"mean": [0.5], "std": [0.0]}, OptionError, "mean and std need one value per channel"),
        (named, {"mean": [0.5], "std": [1.0, 1.0]}, OptionError, "mean and std need one value per channel"),
    ],
)
def test_what_cannot_be_tapped(
    build: Callable[[], nn.Module], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Tap(build(), **options)(torch.rand(2, 3, 64, 64))


def test_maps_and_tokens() -> None:
    images = torch.rand(2, 3, 64, 64)
    seen = Tap(make("resnet10t"), maps=["layer1", "layer4"])(images)
    shapes = {name: tuple(each.shape) for name, each in seen.maps.items()}
    assert shapes == {"layer1": (2, 64, 16, 16), "layer4": (2, 512, 2, 2)}
    assert seen.tokens is None
    vit = make("vit_tiny_patch16_224", img_size=64, depth=2)
    assert Tap(vit, tokens=["blocks.1"])(images).tokens["blocks.1"].shape == (2, 17, 192)


def swin(classes: int = CLASSES, side: int = 64) -> nn.Module:
    options = {"img_size": (side, side * 3 // 2), "window_size": 2, "depths": (1, 1, 1, 1)}
    return timm.create_model("swin_tiny_patch4_window7_224", num_classes=classes, **options).eval()


@pytest.mark.parametrize(
    ("build", "path", "shape"),
    [
        (lambda: swin(), "layers.3", (768, 2, 3)),
        (lambda: nn.Sequential(swin(0), nn.Linear(768, CLASSES)), "0.layers.3", (768, 2, 3)),
        (lambda: EmbeddingHead(swin(), 16, classes=CLASSES), "model.layers.3", (768, 2, 3)),
        (lambda: swin(), "patch_embed", (96, 16, 24)),
        (lambda: swin(), "patch_embed.proj", (96, 16, 24)),
        (lambda: swin(), "layers.1.downsample.norm", (384, 8, 12)),
        (lambda: make("tv:swin_t"), "features.1", (96, 16, 24)),
        (lambda: make("tv:swin_t"), "permute", (768, 2, 3)),
        (lambda: make("mambaout_femto"), "stages.1", (96, 8, 12)),
        (lambda: make("mambaout_femto"), "stages.1.blocks.0.conv", (96, 8, 12)),
        (lambda: make("convnext_atto"), "stages.1", (80, 8, 12)),
        (lambda: make("convnext_atto", conv_mlp=False), "stages.1.blocks.0.mlp.fc1", (320, 8, 12)),
        (lambda: make("maxvit_rmlp_pico_rw_256", img_size=(64, 96)), "stages.1.blocks.0.attn_block", (64, 8, 12)),
    ],
)
def test_channels_come_first_whatever_the_module_works_with(
    build: Callable[[], nn.Module], path: str, shape: tuple[int, ...]
) -> None:
    with torch.no_grad():
        assert Tap(build(), maps=[path], mean=False)(torch.rand(2, 3, 64, 96)).maps[path].shape == (2, *shape)


@pytest.mark.parametrize(
    ("build", "path", "side"),
    [
        (lambda: make("tv:resnet18"), "bn1", 64),
        (lambda: make("tv:resnet18"), "layer1.0.bn2", 64),
        (lambda: make("tv:mobilenet_v2"), "features.0.1", 64),
        (lambda: make("resnet10t"), "bn1", 64),
        (adds, "conv", 64),
        (tall, "stem", 64),
        (tall, "stem.0", 64),
        (tall, "stem.1", 64),
        (square, "patch_embed.proj", 384),
        (square, "patch_embed", 384),  # the network says that its channels are last
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_map_is_what_the_module_returned(build: Callable[[], nn.Module], path: str, side: int, mode: Any) -> None:
    model, seen = build(), []
    model.get_submodule(path).register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    with mode():
        found = Tap(model, maps=[path])(torch.rand(2, 3, side, side)).maps[path]
        assert torch.equal(found, seen[0].movedim(-1, 1) if path == "patch_embed" else seen[0])


def test_the_gradient_passes_through_a_map_that_is_changed_later() -> None:
    model = adds()
    Tap(model, maps=["conv"])(torch.rand(2, 3, 8, 8)).maps["conv"].square().sum().backward()
    assert model.conv.weight.grad.any()
    assert model.fc.weight.grad is None


def test_a_copy_hears_itself_only() -> None:
    tap = Tap(sequence(), maps=["0"])
    twin = copy.deepcopy(tap)
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert not twin(images).maps["0"].any()
    assert not twin(images).proxies.any()
    assert tap(images).proxies.any()
    assert twin.classifier is twin.model[3]


def test_nothing_stays_after_a_call_even_after_an_error() -> None:
    model = sequence()
    taps = Tap(model, maps=["0"]), Tap(model, maps=["0"], tokens=["1"])
    seen = taps[0](torch.rand(2, 3, 8, 8))
    alive = [weakref.ref(each) for each in (seen.embedding, seen.proxies, seen.maps["0"])]
    with pytest.raises(TapError):
        taps[1](torch.rand(2, 3, 8, 8))
    model(torch.rand(2, 3, 8, 8))
    del seen
    gc.collect()
    assert all(each() is None for each in alive)
    assert all(not slot.seen for tap in taps for slot in (tap._head, *tap._maps, *tap._tokens))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_equals_eager_in_values_and_gradients(backend: str) -> None:
    tap = Tap(make("resnet10t"), maps=["layer2"], mean=[0.5] * 3, std=[0.2] * 3)
    images = torch.rand(2, 3, 32, 32)
    gradients = []
    for run in (tap, torch.compile(tap, fullgraph=True, backend=backend)):
        tap.zero_grad()
        seen = run(images)
        parts = (seen.embedding, seen.logits, seen.proxies, seen.proxy_logits, seen.maps["layer2"])
        sum(each.square().mean() for each in parts).backward()
        gradients.append([weight.grad.clone() for weight in tap.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)


def test_gradients_reach_the_rows_through_proxies_and_their_logits() -> None:
    for part in ("proxies", "proxy_logits"):
        tap = Tap(sequence())
        tap(torch.rand(2, 3, 8, 8)).tensor(part, "test").sum().backward()
        assert float(tap.classifier.weight.grad.abs().sum()) > 0
        assert tap.model[0].weight.grad is None or not tap.model[0].weight.grad.any()
