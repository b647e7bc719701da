"""Tap: any image classifier says Features instead of logits."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import linear

from graphkd._classifier import Classifier, find_classifier, submodule
from graphkd.errors import OptionError, TapError
from graphkd.features import Features
from graphkd.typing import Float, Tensor


class _Slot:
    """Where a hook leaves what it saw while its Tap is running; otherwise it keeps nothing.

    The hook is the bound method ``see``: ``deepcopy`` copies a bound method together with its object, while a
    closure would go on writing into the original.
    """

    def __init__(self, path: str, module: nn.Module) -> None:
        self.path = path
        self.open = False
        self.seen: tuple[Tensor, ...] = ()
        module.register_forward_hook(self.see)

    def see(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if self.open:
            self.seen = (output,)

    def read(self) -> tuple[Tensor, ...]:
        if not self.seen:
            raise TapError(f"module {self.path!r} was not called in the model's forward: name one that is")
        return self.seen


class _ClassifierSlot(_Slot):
    """Input, rows and bias of the classifier.

    The rows are cloned here, inside forward, because only here FSDP2 has them whole: outside they are a DTensor.
    """

    def see(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if self.open:
            assert isinstance(module, Classifier)
            bias = () if module.bias is None else (module.bias.clone(),)
            self.seen = (args[0], module.weight.flatten(1).clone(), *bias)


class Tap(nn.Module):
    r"""A model that returns Features: embedding, logits, proxies, what the head says of them, maps and tokens.

    With the classifier's weight W [c, d] and bias b, and x its input:

    .. math:: \text{embedding} = x, \quad \text{proxies} = W, \quad \text{proxy\_logits} = W W^\top + b

    (b along the second index). Gradients reach W through proxies and proxy_logits too. In train mode x is what the
    classifier receives, behind the model's own dropout.

    Args:
        model: any classifier of timm, torchvision, transformers or your own; its output is a tensor of logits, or a
            record that holds them as ``logits``.
        maps: module paths whose outputs are feature maps.
        tokens: module paths whose outputs are token sequences.
        head: path of the classifier (a Linear, a 1x1 Conv2d, or a container that ends in one), where it is not
            found by itself or there are several. Models that average two heads (DeiT-distilled, LeViT-distilled)
            need it: embedding and proxies are then those of this head, logits remain the model's average.
        mean, std: per channel, in units of [0, 1] images; if given, images are normalised here.

    Attributes:
        model: the model, as given; ``state_dict`` holds it under ``model.`` and nothing else.
        classifier: the layer found.
        embedding_dim, num_classes: its width and its number of rows.

    Shapes:
        images (b, channels, h, w) -> embedding (b, d), logits (b, c), proxies (c, d), proxy_logits (c, c).
        A convolution that classifies a whole map and is pooled afterwards (SqueezeNet) has the map's mean as embedding.
        maps are (b, c, h, w): the second index is taken as channels. timm's models that declare
        ``output_fmt = "NHWC"`` (Swin, MambaOut, Sequencer) are turned to it; in any other model that works
        channels-last inside (torchvision's Swin) name a module behind its permutation. tokens are (b, n, d).

    Raises: TapError if no classifier is found, or several; if a path does not exist or is not called; if the model's
        output is not a (b, c) tensor (Inception and GoogLeNet with auxiliary outputs in train mode: create them
        with ``aux_logits=False``); if a map or tokens have another rank.

    Example::

        student = Tap(timm.create_model("resnet18", num_classes=10), maps=["layer4"])
        features = student(images)      # features.embedding [b, 512], features.maps["layer4"] [b, 512, h, w]

    With FSDP2, tap the model before ``fully_shard``: the hook must run before its parameters are sharded again.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        *,
        maps: Sequence[str] = (),
        tokens: Sequence[str] = (),
        head: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for name, paths in (("maps", maps), ("tokens", tokens)):
            if isinstance(paths, str):
                raise OptionError(f"{name} is a sequence of module paths, found the string {paths!r}: use [{paths!r}]")
        self.model = model
        self._classifier_path, classifier = find_classifier(model, head)
        self.num_classes, self.embedding_dim = classifier.weight.shape[:2]
        self._head = _ClassifierSlot(self._classifier_path, classifier)
        self._maps = [_Slot(path, submodule(model, path)) for path in maps]
        self._tokens = [_Slot(path, submodule(model, path)) for path in tokens]
        for name, values in zip(("mean", "std"), _normalization(mean, std), strict=True):
            self.register_buffer(name, values, persistent=False)

    @property
    def classifier(self) -> Classifier:
        """The layer whose input is the embedding and whose rows are the proxies."""
        module = self.model.get_submodule(self._classifier_path)
        assert isinstance(module, Classifier)
        return module

    def forward(self, images: Float[Tensor, "b channels h w"]) -> Features:
        """The model's Features of a batch of images."""
        if self.mean is not None and self.std is not None:
            images = (images - self.mean.to(images)) / self.std.to(images)
        slots = [self._head, *self._maps, *self._tokens]
        try:
            for slot in slots:
                slot.open = True
            logits = self._logits(self.model(images))
            x, proxies, *bias = self._head.read()
            return Features(
                embedding=self._embedding(x, logits),
                logits=logits,
                proxies=proxies,
                proxy_logits=linear(proxies, proxies, *bias),
                maps={slot.path: self._map(slot) for slot in self._maps} or None,
                tokens={slot.path: _of_rank(slot, 3, "tokens (b, n, d)") for slot in self._tokens} or None,
            )
        finally:  # nothing of this call's autograd graph stays behind
            for slot in slots:
                slot.open, slot.seen = False, ()

    def _logits(self, output: object) -> Float[Tensor, "b c"]:
        if isinstance(output, Mapping):  # transformers answers with a record
            output = output.get("logits", output)
        if not isinstance(output, Tensor):
            raise TapError(
                f"expected {type(self.model).__name__} to return a tensor of logits, found {type(output).__name__}: "
                "switch auxiliary outputs off (aux_logits=False), or wrap the model so that it returns the logits"
            )
        if output.ndim == 4 and output.shape[2:] == (1, 1):
            output = output.flatten(1)
        if output.ndim != 2 or output.shape[1] != self.num_classes:
            raise TapError(
                f"expected logits (b, {self.num_classes}) from {type(self.model).__name__}, as its classifier "
                f"{self._classifier_path!r} has {self.num_classes} rows, found {tuple(output.shape)}: "
                "name the layer that makes the logits, head='module.path'"
            )
        return output

    def _map(self, slot: _Slot) -> Float[Tensor, "b c h w"]:
        value = _of_rank(slot, 4, "a map (b, c, h, w)")
        return value.movedim(-1, 1) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else value

    def _embedding(self, x: Tensor, logits: Tensor) -> Float[Tensor, "b d"]:
        if x.ndim == 4 and x.shape[1] == self.embedding_dim and isinstance(self.classifier, nn.Conv2d):
            x = x.mean((2, 3))
        if x.shape != (len(logits), self.embedding_dim):
            raise TapError(
                f"expected the input of classifier {self._classifier_path!r} to be ({len(logits)}, "
                f"{self.embedding_dim}), one vector per image, found {tuple(x.shape)}: "
                "a layer that runs per token or per position has no embedding; name another, head='module.path'"
            )
        return x


def _of_rank(slot: _Slot, rank: int, expected: str) -> Tensor:
    value = _tensor_of(slot.read()[0])
    found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if not isinstance(value, Tensor) or value.ndim != rank:
        raise TapError(f"expected {expected} from module {slot.path!r}, found {found}: name another module")
    return value


def _tensor_of(output: object) -> object:
    """What a module of transformers says: the tensor itself, or the first of a record or tuple."""
    output = getattr(output, "last_hidden_state", output)
    return output[0] if isinstance(output, tuple) and output else output


def _normalization(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Tensor | None, Tensor | None]:
    if mean is None and std is None:
        return None, None
    if mean is None or std is None or len(mean) != len(std) or min(std) <= 0:
        raise OptionError(f"mean and std need one value per channel each, std > 0; found mean={mean}, std={std}")
    return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
