"""Digests of weights, texts and structures: what a teacher's fingerprint and a cache's key are made of."""

import hashlib
import json
from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch import nn

from graphkd.typing import Tensor


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
