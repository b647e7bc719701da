"""What every teacher is: a frozen callable from images to Features, with a precision and a fingerprint of its own."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal, Self, TypeAlias

import torch
from torch import nn

from graphkd.features import Features
from graphkd.registry import unknown
from graphkd.teachers.preprocess import Preprocess
from graphkd.typing import Float, Tensor

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast to half precision; for ``"fp32"`` none, even inside an outer one."""
    if precision == "fp32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def tensor_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 (hex) of names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weight_digest(model: nn.Module, *, without: str | None = None) -> str:
    """SHA-256 (hex) of all parameters and buffers, except those whose name begins with ``without``."""
    named = chain(model.named_parameters(), model.named_buffers())
    return tensor_digest((name, value) for name, value in named if without is None or not name.startswith(without))


def structure_digest(model: nn.Module) -> str:
    """SHA-256 (hex) of what the weights do not tell: the modules (activations, say) and their numbers of heads."""
    names = ("num_heads", "num_attention_heads")  # timm's and open_clip's, transformers'
    heads = [
        (name, getattr(module, each))
        for name, module in model.named_modules()
        for each in names
        if hasattr(module, each)
    ]
    return hashlib.sha256(f"{model!r}{heads}".encode()).hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 (hex) of JSON-ready data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def count_batches(teacher: "Teacher") -> list[int]:
    """Record the size of each batch that a teacher gets from now on, in a list that grows.

    Example: ``asked = count_batches(teacher)``, and after an epoch ``len(asked), sum(asked)``
    """
    asked: list[int] = []
    features = teacher.features

    def counted(images: Tensor) -> Features:
        asked.append(len(images))
        return features(images)

    setattr(teacher, "features", counted)  # noqa: B010  # of this teacher alone
    return asked


class Teacher(ABC):
    """A frozen network that turns images in [0, 1] into :class:`Features`, without gradient.

    A teacher is no ``nn.Module``: it never enters a state dict, a DDP wrapper or an optimiser. It resizes and
    normalises images itself, and names itself by :meth:`fingerprint`.

    Attributes:
        embedding_dim: width d of the embedding.
        classes: class names, or ``None``.
        num_classes: number of logits, or ``None`` for a teacher without head.
        by_text: whether its classes are texts, and its logits scaled cosines.
        device: where its network is; images are given there.
    """

    embedding_dim: int
    classes: Sequence[str] | None
    num_classes: int | None
    by_text: bool = False
    device: torch.device = torch.device("cpu")

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """Features of a batch of images in [0, 1], of any size.

        Shapes: (b, 3, h, w) -> embedding (b, d), logits (b, c), proxies (c, d), proxy_logits (c, c).
        """
        return self.features(images)

    @abstractmethod
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """The features themselves; called without gradient."""

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """What determines the output, as JSON-ready text: weights, prompts, prompt weighting, preprocessing."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move to a device, in place; returns itself."""


class NetworkTeacher(Teacher):
    """A teacher that is one frozen network with its preprocessing.

    Args:
        model: the network; it is frozen and put into eval mode in place.
        preprocess: from images in [0, 1] to what the network expects.
        precision: of the network (autocast), whatever surrounds the call.
        device: where the network is.
    """

    def __init__(self, model: Any, preprocess: Preprocess, precision: Precision, device: torch.device | str) -> None:
        if precision not in _DTYPES:
            raise unknown("precision", precision, list(_DTYPES))
        self._model = model.eval().requires_grad_(False)
        self.preprocess, self._precision = preprocess, precision
        self._digests: dict[str, str] = {}
        self.to(device)

    @abstractmethod
    def _facts(self) -> dict[str, str]:
        """What determines the output besides weights, structure, preprocessing and precision."""

    def fingerprint(self) -> dict[str, str]:
        """Digests of weights and structure; preprocessing and precision as text; and the facts of its kind."""
        facts = self._facts()
        if not self._digests:
            self._digests = {"weights": weight_digest(self._model), "structure": structure_digest(self._model)}
        preprocess = json.dumps(self.preprocess.spec, sort_keys=True)
        return {
            "kind": type(self).__name__,
            **self._digests,
            **facts,
            "preprocess": preprocess,
            "precision": self._precision,
        }

    def to(self, device: torch.device | str) -> Self:
        """Move to a device, in place; returns itself."""
        self.device = torch.device(device)
        for name, part in vars(self).items():
            if isinstance(part, nn.Module | Tensor):
                setattr(self, name, part.to(self.device))
        return self
