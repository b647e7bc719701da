"""CLIPImageTeacher: the image tower of a CLIP-like model alone, which needs no class names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from graphkd.features import Features
from graphkd.teachers.base import NetworkTeacher, Precision, autocast
from graphkd.typing import Float, Tensor


class CLIPImageTeacher(NetworkTeacher):
    """The image embeddings of CLIP, of unit length: no texts, no classes, no class scores.

    Methods that compare embeddings learn from it, such as :class:`graphkd.RKDDistiller`.

    Args:
        model, pretrained, quick_gelu, precision, device, preprocess: as of :class:`graphkd.CLIPTeacher`.

    Shapes: images (b, 3, h, w) -> embedding (b, d).
    Raises: TeacherError, UnknownNameError.
    Example: ``CLIPImageTeacher("ViT-B-32", pretrained="openai")(images).embedding``
    """

    classes = None
    num_classes = None

    def __init__(
        self,
        model: str | Path | Mapping[str, Any] | nn.Module,
        *,
        pretrained: str | Path | None = None,
        quick_gelu: bool | None = None,
        precision: Precision = "fp32",
        device: torch.device | str = "cpu",
        preprocess: Mapping[str, Any] | None = None,
    ) -> None:
        from graphkd.teachers.openclip import load_clip  # seconds: open_clip is imported by whoever uses it

        loaded = load_clip(model, pretrained, quick_gelu=quick_gelu)
        super().__init__(loaded.model, loaded.preprocessing(preprocess or {}), precision, device)
        black = torch.zeros(1, 3, *(self.preprocess.size or (224, 224)), device=self.device)
        self.embedding_dim = self(black).tensor("embedding", "CLIP").shape[1]

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """The embedding."""
        with autocast(self.device, self._precision):
            output = self._model.encode_image(self.preprocess(images))
        vectors = output[0] if isinstance(output, tuple) else output  # towers that return tokens too: vector first
        return Features(embedding=normalize(vectors.float(), dim=-1))

    def _facts(self) -> dict[str, str]:
        return {"tower": "image"}
