"""What the common laws are checked on: tiny features that offer every part, and each registered method between them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.distillers.base import Distiller
from graphkd.distillers.factory import create_distiller, distillers
from graphkd.features import Features
from graphkd.losses import Losses

CLASSES, SAMPLES = 5, 32
NAMES = distillers().names()
# Only what a method cannot be built without.
OPTIONS: dict[str, dict[str, Any]] = {
    "hkd": {"num_samples": SAMPLES, "negatives": 8, "width": 8},
    "combined": {"parts": {"kd": {}, "rkd": {}}, "weights": {"rkd": 0.5}},
}


def features(samples: int, seed: int, width: int = 6, small: int = 2, dtype: torch.dtype = torch.float64) -> Features:
    """One network's view of a batch; only embeddings, tokens and the second map's size differ between networks."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Features(
        embedding=draw(samples, width),
        logits=draw(samples, CLASSES),
        proxies=draw(CLASSES, width),
        proxy_logits=draw(CLASSES, CLASSES),
        maps={"layer1": draw(samples, 4, 4, 4), "layer2": draw(samples, 8, small, small)},
        tokens={"blocks": draw(samples, 5, width)},
    )


def networks(samples: int, dtype: torch.dtype = torch.float64) -> tuple[Features, Features]:
    """A student and a teacher."""
    return features(samples, 1, dtype=dtype), features(samples, 2, width=8, small=4, dtype=dtype)


def beside(samples: int) -> dict[str, Tensor]:
    """Labels and sample positions."""
    return {"target": torch.arange(samples) % CLASSES, "index": (torch.arange(samples) * 3) % SAMPLES}


def between(name: str, student: Features, teacher: Features, dtype: torch.dtype = torch.float64) -> Distiller:
    """The method of that name, with its parameters in that precision."""
    torch.manual_seed(0)
    return create_distiller(name, student, teacher, **OPTIONS.get(name, {})).to(dtype)


def rows(features: Features, chosen: Tensor | slice) -> Features:
    """Some samples of a batch; what all share stays."""
    assert features.maps is not None
    assert features.tokens is not None
    assert features.embedding is not None
    assert features.logits is not None
    return replace(
        features,
        embedding=features.embedding[chosen],
        logits=features.logits[chosen],
        maps={name: each[chosen] for name, each in features.maps.items()},
        tokens={name: each[chosen] for name, each in features.tokens.items()},
    )


def with_gradient(features: Features) -> Features:
    """The same values as leaves that collect a gradient."""
    return features.map_tensors(lambda x: x.clone().requires_grad_())


def gradients(losses: Losses, features: Features) -> list[Tensor]:
    """Gradient of the total with respect to every tensor of the features; zeros where none arrives."""
    leaves = features.tensors()
    found = torch.autograd.grad(losses.total, leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, found, strict=True)]


def set_projectors_to_identity(distiller: nn.Module) -> None:
    """Square linear layers and 1x1 convolutions pass their input on: then a student can equal its teacher."""
    for module in distiller.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.shape[0] == module.weight.shape[1]:
            with torch.no_grad():
                module.weight.copy_(torch.eye(len(module.weight)).view_as(module.weight))
                if module.bias is not None:
                    module.bias.zero_()
