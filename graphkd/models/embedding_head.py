"""EmbeddingHead: a linear embedding of chosen width under a model's classifier."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from graphkd.errors import OptionError, TapError
from graphkd.models.classifier import find_classifier
from graphkd.models.tap import Tap
from graphkd.typing import Float, Tensor


class EmbeddingHead(nn.Module):
    r"""A model whose classifier sits on a linear embedding: at training, at test time and in exports.

    .. math:: x = A f + a, \quad \text{logits} = W x + b

    with f the input of the model's old classifier. Both layers start from PyTorch's default; nothing stands
    between them. ``Tap`` finds the new classifier, so its embedding is x and its proxies are the rows of W.

    Paper: Ma, Chen, Akata, "Embedding Graph Alignment", BMVC 2022 (student head, 256 wide).

    Args:
        model: any classifier that ``Tap`` can read; its classifier is replaced in place.
        dim: width of the embedding, >= 1.
        classes: number of classes, >= 1.
        head: path of the old classifier, where it is not found by itself. A model that averages two heads
            (DeiT-distilled) is better created without the second: the other head keeps its own classes.

    Shapes: images (b, channels, h, w) -> logits (b, classes).

    Raises: TapError if the classifier is not found, or a Tap is given; OptionError for a width below 1.

    Example: ``student = Tap(EmbeddingHead(timm.create_model("resnet18"), 256, classes=10))``
    """

    def __init__(self, model: nn.Module, dim: int, classes: int, *, head: str | None = None) -> None:
        super().__init__()
        if isinstance(model, Tap):
            raise TapError("expected a model, found a Tap: tap afterwards, Tap(EmbeddingHead(model, dim, classes))")
        if dim < 1 or classes < 1:
            raise OptionError(f"dim and classes must be at least 1, found dim={dim}, classes={classes}")
        path, old = find_classifier(model, head)
        if not path:
            raise TapError("the model is a bare linear layer: put it into an nn.Sequential first")
        layer = partial(nn.Conv2d, kernel_size=1) if isinstance(old, nn.Conv2d) else nn.Linear
        layers = nn.Sequential(layer(old.weight.shape[1], dim), layer(dim, classes))
        model.set_submodule(path, layers.to(old.weight))
        if hasattr(model, "num_classes"):  # timm's models tell it to their readers
            model.num_classes = classes  # type: ignore[assignment]
        self.model = model
        self._path = path

    @property
    def pretrained_cfg(self) -> Mapping[str, Any]:
        """How the inner model sees images, in timm's words; empty where it does not say."""
        return getattr(self.model, "pretrained_cfg", {})

    def get_classifier(self) -> nn.Module:
        """The layer that makes the logits, as timm's models name it."""
        return self.model.get_submodule(f"{self._path}.1")

    def forward(self, images: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b c"]:
        """The logits."""
        logits: Tensor = self.model(images)
        return logits
