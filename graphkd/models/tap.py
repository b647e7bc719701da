"""Tap: any image network returns Features instead of logits."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import linear

from graphkd.errors import OptionError, TapError
from graphkd.features import Features
from graphkd.models.classifier import Classifier, find_classifier, submodule
from graphkd.models.pixels import RangeCheck, check_form, normalization
from graphkd.typing import Float, Tensor


class _Slot:
    """What a hook saw during one call of its Tap; outside a call it keeps nothing.

    The hook is the bound method ``see``: ``deepcopy`` copies a bound method together with its object, while a
    closure would go on writing into the original.
    """

    def __init__(self, path: str, module: nn.Module) -> None:
        self.path = path
        self.open = False
        self.seen: tuple[Tensor, ...] = ()
        module.register_forward_hook(self.see)

    def see(self, module: nn.Module, args: tuple[Tensor, ...], output: object) -> None:
        if self.open:
            if self.seen:
                raise TapError(
                    f"module {self.path!r} was called more than once in one forward, so it has several outputs: name a "
                    "module that is called once, such as the one around it"
                )
            self.seen = self.take(module, args, output)

    def take(self, module: nn.Module, args: tuple[Tensor, ...], output: object) -> tuple[Tensor, ...]:
        """The module's own output: a copy, which a later in-place operation (ReLU, ``x += y``) does not change."""
        value = _tensor_of(output)
        if not isinstance(value, Tensor):
            raise TapError(
                f"expected a tensor from module {self.path!r}, found {type(value).__name__}: name another module"
            )
        return (value.clone(),)

    def read(self) -> tuple[Tensor, ...]:
        if not self.seen:
            raise TapError(f"module {self.path!r} was not called in the model's forward: name one that is")
        return self.seen


class _ClassifierSlot(_Slot):
    """Input, rows and bias of the classifier.

    The rows are cloned here, inside forward, because only here FSDP2 has them whole: outside they are a DTensor.
    """

    def take(self, module: nn.Module, args: tuple[Tensor, ...], output: object) -> tuple[Tensor, ...]:
        assert isinstance(module, Classifier)
        bias = () if module.bias is None else (module.bias.clone(),)
        return (args[0], module.weight.flatten(1).clone(), *bias)


class Tap(nn.Module):
    r"""A model that returns Features: embedding, logits, proxies, the head's output for them, maps and tokens.

    With the classifier's weight W [c, d] and bias b, and x its input:

    .. math:: \text{embedding} = x, \quad \text{proxies} = W, \quad \text{proxy\_logits} = W W^\top + b

    (b along the second index). Gradients reach W through proxies and proxy_logits too. In train mode x is what the
    classifier receives, behind the model's own dropout. A backbone without a classifier (timm's ``num_classes=0``, or
    ``head=False``) has its output as embedding, and neither logits nor proxies.

    Args:
        model: any classifier of timm, torchvision, transformers or your own; its output is a tensor of logits, or a
            record that holds them as ``logits``.
        maps: module paths whose outputs are feature maps.
        tokens: module paths whose outputs are token sequences.
        head: path of the classifier (a Linear, a 1x1 Conv2d, or a container that ends in one), where it is not
            found by itself or there are several. Models that average two heads (DeiT-distilled, LeViT-distilled)
            need it: embedding and proxies are then those of this head, logits remain the model's average. ``False`` for
            a model without one, whose output is the embedding; its width is found by one forward pass of a copy.
        mean, std: per channel, of images in [0, 1], which are normalised here. ``None`` takes what the network says of
            itself (``pretrained_cfg``: timm's networks and those of :mod:`graphkd.models.huggingface`) and normalises
            nothing where it says nothing: torchvision's networks and your own need the two. ``mean=False`` for no
            normalisation, whatever the network says.

    Attributes:
        model: the model, as given; ``state_dict`` holds it under ``model.`` and nothing else.
        classifier, classifier_path: the layer found, and its path in the model; ``None`` without one.
        embedding_dim, num_classes: its width and its number of rows; ``num_classes`` is ``None`` without one.

    Shapes:
        images (b, channels, h, w) -> embedding (b, d), logits (b, c), proxies (c, d), proxy_logits (c, c).
        A convolution that classifies a whole map and is pooled afterwards (SqueezeNet) has the map's mean as embedding.
        maps are (b, c, h, w), tokens (b, n, d). A map that is channels-last (in Swin, MambaOut, ConvNeXt) is turned. It
        is known by its shape, as height and width shrink alike, and only where the module's last layer, or the one
        before it, is a Linear or LayerNorm: convolutions are never turned. Where both readings fit, as for
        (b, 56, 56, 56), the ``output_fmt`` of the innermost network around the module decides.
        Maps and tokens are copies of what the module returned: one map of memory each. torch.compile makes the copy
        only where a later in-place operation needs it.

    Raises: TapError if no classifier is found, or several; if a path does not exist, is not called or is called more
        than once; if the model's output is not a (b, c) tensor (Inception and GoogLeNet with auxiliary outputs in train
        mode: create them with ``aux_logits=False``); if a map or tokens have another rank. ShapeError for images of
        integers or of other channels than ``mean``; DataError for values outside [0, 1], where they are normalised here
        (:class:`graphkd.models.pixels.RangeCheck` says when it looks; in eval mode without gradient it is a warning).

    Example::

        student = Tap(timm.create_model("resnet18", num_classes=10), maps=["layer4"])
        features = student(images)      # features.embedding [b, 512], features.maps["layer4"] [b, 512, h, w]

    With FSDP2, tap the model before ``fully_shard``: the hook must run before its parameters are sharded again.
    """

    mean: Tensor | None
    std: Tensor | None
    created_as: str | None = None  # the name that ``create_student`` was given

    def __init__(
        self,
        model: nn.Module,
        *,
        maps: Sequence[str] = (),
        tokens: Sequence[str] = (),
        head: str | Literal[False] | None = None,
        mean: Sequence[float] | Literal[False] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for name, paths in (("maps", maps), ("tokens", tokens)):
            if isinstance(paths, str):
                raise OptionError(f"{name} is a sequence of module paths, found the string {paths!r}: use [{paths!r}]")
        self.model = model
        self._head: _ClassifierSlot | None = None
        self.classifier_path: str | None = None
        self.num_classes: int | None = None
        if head is not False and (head is not None or getattr(model, "num_classes", None) != 0):
            self.classifier_path, classifier = find_classifier(model, head)
            self.num_classes, self.embedding_dim = classifier.weight.shape[:2]
            self._head = _ClassifierSlot(self.classifier_path, classifier)
        self._maps = [_Slot(path, submodule(model, path)) for path in maps]
        self._may_turn = frozenset(path for path in maps if _may_be_last(model, path))
        self._tokens = [_Slot(path, submodule(model, path)) for path in tokens]
        self._check_range = RangeCheck()
        for name, values in zip(("mean", "std"), normalization(model, mean, std), strict=True):
            self.register_buffer(name, values, persistent=False)
        if self._head is None:
            self.embedding_dim = _width(model, 3 if self.mean is None else len(self.mean))

    @property
    def classifier(self) -> Classifier | None:
        """The layer whose input is the embedding and whose rows are the proxies; ``None`` without one."""
        if self.classifier_path is None:
            return None
        module = self.model.get_submodule(self.classifier_path)
        assert isinstance(module, Classifier)
        return module

    def forward(self, images: Float[Tensor, "b channels h w"]) -> Features:
        """The model's Features of a batch of images."""
        pixels = self._normalised(images)
        slots = [*([self._head] if self._head else []), *self._maps, *self._tokens]
        try:
            for slot in slots:
                slot.open = True
            output = self.model(pixels)
            maps = {slot.path: self._map(slot, images) for slot in self._maps} or None
            tokens = {slot.path: _of_rank(slot, 3, "tokens (b, n, d)") for slot in self._tokens} or None
            if self._head is None:
                return Features(embedding=_vector(output, self.model), maps=maps, tokens=tokens)
            logits = self._logits(output)
            x, proxies, *bias = self._head.read()
            proxy_logits = linear(proxies, proxies, *bias)
            return Features(self._embedding(x, logits), logits, proxies, proxy_logits, maps, tokens)
        finally:  # nothing of this call's autograd graph stays behind
            for slot in slots:
                slot.open, slot.seen = False, ()

    def _normalised(self, images: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b channels h w"]:
        check_form(images, None if self.mean is None else len(self.mean))
        if self.mean is None or self.std is None:
            return images
        self._check_range(images, refuse=self.model.training or torch.is_grad_enabled())
        return (images - self.mean.to(images)) / self.std.to(images)

    def _logits(self, output: object) -> Float[Tensor, "b c"]:
        if isinstance(output, Mapping):  # transformers answers with a record
            output = output.get("logits", output)
        if not isinstance(output, Tensor):
            raise TapError(
                f"expected {type(self.model).__name__} to return a tensor of logits, found {type(output).__name__}: "
                "switch auxiliary outputs off (aux_logits=False); a model that returns its maps too needs no Tap but a "
                "module that makes Features of them (three lines, in the documentation under Extending)"
            )
        if output.ndim == 4 and output.shape[2:] == (1, 1):
            output = output.flatten(1)
        if output.ndim != 2 or output.shape[1] != self.num_classes:
            raise TapError(
                f"expected logits (b, {self.num_classes}) from {type(self.model).__name__}, as its classifier "
                f"{self.classifier_path!r} has {self.num_classes} rows, found {tuple(output.shape)}: "
                "name the layer that makes the logits, head='module.path'"
            )
        return output

    def _map(self, slot: _Slot, images: Tensor) -> Float[Tensor, "b c h w"]:
        value = _of_rank(slot, 4, "a map (b, c, h, w)")
        (height, width), (_, a, b, c) = images.shape[-2:], value.shape
        # height and width shrink alike, up to the rounding of a pixel
        first, last = (abs(h * width - w * height) < max(height, width) for h, w in ((b, c), (a, b)))
        fits = last if first != last else _declared_last(self.model, slot.path)
        return value.movedim(-1, 1) if fits and slot.path in self._may_turn else value

    def _embedding(self, x: Tensor, logits: Tensor) -> Float[Tensor, "b d"]:
        if x.ndim == 4 and x.shape[1] == self.embedding_dim and isinstance(self.classifier, nn.Conv2d):
            x = x.mean((2, 3))
        if x.shape != (len(logits), self.embedding_dim):
            raise TapError(
                f"expected the input of classifier {self.classifier_path!r} to be ({len(logits)}, "
                f"{self.embedding_dim}), one vector per image, found {tuple(x.shape)}: "
                "a layer that runs per token or per position has no embedding; name another, head='module.path'"
            )
        return x


def _vector(output: object, model: nn.Module) -> Float[Tensor, "b d"]:
    """The output of a network without classifier."""
    if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:] == (1, 1):
        output = output.flatten(1)
    if not isinstance(output, Tensor) or output.ndim != 2:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise TapError(
            f"expected {type(model).__name__}, a network without classifier, to give one vector an image (b, d), found "
            f"{found}: let it pool its output (timm: global_pool='avg' or 'token')"
        )
    return output


@torch.no_grad()
def _width(model: nn.Module, channels: int) -> int:
    """Width of the output of a network without classifier, from a black image."""
    said: Any = getattr(model, "pretrained_cfg", None) or {}
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or said.get("input_size", (3, 224, 224))[1:]
    first = next(model.parameters(), torch.empty(0))
    return _vector(deepcopy(model).eval()(first.new_zeros(1, channels, *size)), model).shape[1]


def _of_rank(slot: _Slot, rank: int, expected: str) -> Tensor:
    (value,) = slot.read()
    if value.ndim != rank:
        raise TapError(
            f"expected {expected} from module {slot.path!r}, found {tuple(value.shape)}: name another module"
        )
    return value


def _tensor_of(output: object) -> object:
    """The output of a module as a tensor: of a record or tuple of transformers, the first."""
    output = getattr(output, "last_hidden_state", output)
    return output[0] if isinstance(output, tuple) and output else output


def _declared_last(model: nn.Module, path: str) -> bool:
    """Whether the innermost network around a module declares its maps as (b, h, w, c)."""
    names = path.split(".")
    around = [model.get_submodule(".".join(names[:depth])) for depth in range(len(names), -1, -1)]
    return bool(next((each.output_fmt for each in around if hasattr(each, "output_fmt")), None) == "NHWC")


def _may_be_last(model: nn.Module, path: str) -> bool:
    """Whether channels may be last in a module's output: the last layer in it, or before it, works on the last axis."""
    last, reached = False, False
    for name, module in model.named_modules():
        inside = name == path or name.startswith(f"{path}.")
        if reached and not inside:
            break
        reached = inside
        if isinstance(module, nn.Linear | nn.LayerNorm):
            last = True
        elif isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
            last = False
    return last
