"""ClassifierTeacher: any frozen image network, with or without a classifier."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from graphkd.errors import DataError, TapError, TeacherError
from graphkd.features import Features
from graphkd.models.tap import Tap
from graphkd.teachers.base import NetworkTeacher, Precision, autocast, json_digest
from graphkd.teachers.preprocess import Preprocess
from graphkd.teachers.texts import resolve_classes
from graphkd.typing import Float, Tensor


class ClassifierTeacher(NetworkTeacher):
    """A frozen timm, torchvision or other image network.

    ``Features``: embedding and logits as :class:`graphkd.Tap` finds them, proxies W (classifier rows) and proxy_logits,
    the classifier's answer to its own rows. A network without classifier (DINOv2) has an embedding only, its output:
    methods that need logits or proxies say so.

    Args:
        model: the network; it is frozen and put into eval mode in place.
        classes: class names, index = logit, a mapping from id to name in that order, or ``None``.
        mean, std: normalization of pixels in [0, 1]; ``None`` takes a timm model's own.
        image_size: side or (height, width) in pixels; ``None`` takes a timm model's own, else keeps the images' size.
        head: module path of the classifier where there are several; ``False`` for a network without one. ``None``
            finds it, and takes timm's ``num_classes=0`` for a network without one.
        maps, tokens: module paths of feature maps and token sequences to expose.
        precision: of the network (autocast), whatever surrounds the call; features are float32.
        device: where the network is.

    Raises: TeacherError, DataError; TapError if no classifier is found and ``head`` does not say that there is none.
    Example: ``ClassifierTeacher(timm.create_model("resnet34", pretrained=True))(images).logits``
    """

    classes: tuple[str, ...] | None

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str] | Mapping[str, str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int | Sequence[int] | None = None,
        head: str | Literal[False] | None = None,
        maps: Sequence[str] = (),
        tokens: Sequence[str] = (),
        precision: Precision = "fp32",
        device: torch.device | str = "cpu",
    ) -> None:
        self.classes = None if classes is None else resolve_classes(classes)
        super().__init__(model, _preprocess(model, mean, std, image_size), precision, device)
        self._views: dict[str, Any] = {"head": head, "maps": list(maps), "tokens": list(tokens)}
        self._headless = head is False or (head is None and getattr(model, "num_classes", None) == 0)
        if self._headless:
            model = _Headless(model, self._width())
        self._tap = _tap(model, self._views, headless=self._headless).eval().requires_grad_(False).to(self.device)
        self.embedding_dim = self._tap.embedding_dim
        self.num_classes = None if self._headless else self._tap.num_classes
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise DataError(
                f"{len(self.classes)} class names and {self.num_classes or 'no'} logits: give one name per logit"
            )

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """What the tap finds, in float32."""
        with autocast(self.device, self._precision):
            found: Features = self._tap(self.preprocess(images))
        if self._headless:
            maps, tokens = _outer(found.maps), _outer(found.tokens)
            found = Features(embedding=found.embedding, maps=maps, tokens=tokens)
        return found.as_float32()

    def _facts(self) -> dict[str, str]:
        return {"classes": json_digest(self.classes), "parts": json.dumps(self._views, sort_keys=True)}

    @torch.no_grad()
    def _width(self) -> int:
        """Width of the output of a network without classifier."""
        pixels = next(self._model.parameters()).new_zeros(1, 3, *(self.preprocess.size or (224, 224)))
        output = self._model(pixels)
        if not isinstance(output, Tensor) or output.ndim != 2:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise TeacherError(
                f"a network without classifier must give one vector per image (b, d), found {found}: let it pool its "
                "output (timm: global_pool='avg' or 'token')"
            )
        return output.shape[1]


class _Headless(nn.Module):
    """A network whose output counts as the input of a head, so that Tap finds the embedding there."""

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.model, self.head = model, nn.Linear(width, 1, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.model(pixels))
        return logits


def _tap(model: nn.Module, views: Mapping[str, Any], *, headless: bool) -> Tap:
    if headless:
        maps, tokens = ([f"model.{path}" for path in views[kind]] for kind in ("maps", "tokens"))
        return Tap(model, head="head", maps=maps, tokens=tokens, mean=False)
    try:
        return Tap(model, **views, mean=False)
    except TapError as error:
        raise TapError(f"{error} (ClassifierTeacher: head=False for a network without classifier)") from error


def _outer(parts: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    return None if parts is None else {path.removeprefix("model."): value for path, value in parts.items()}


def _preprocess(model: nn.Module, mean: Any, std: Any, size: Any) -> Preprocess:
    """What is given, else what a model of timm or :mod:`graphkd.models.huggingface` says of itself."""
    said = getattr(model, "pretrained_cfg", None) or {}
    mean, std = mean or said.get("mean"), std or said.get("std")
    if mean is None or std is None:
        raise TeacherError(
            f"the normalization of {type(model).__name__} is not known: give the mean= and std= it was trained with "
            "(torchvision's ImageNet weights: (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225))"
        )
    # a ViT built with img_size= keeps the size of its weights in pretrained_cfg
    own = getattr(getattr(model, "patch_embed", None), "img_size", None) or said.get("input_size", (None,))[1:] or None
    interpolation = said.get("interpolation", "bicubic")
    if interpolation not in ("bicubic", "bilinear"):
        interpolation = "bicubic"
    return Preprocess(mean, std, size or own, interpolation, said.get("resize_mode", "shortest"))
