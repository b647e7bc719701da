"""The names of ImageNet's classes; without torch, as folders are read without it."""

from typing import Any


def imagenet_names() -> dict[str, str]:
    """ImageNet-1k's WordNet ids, sorted, and the class names that OpenAI curated for CLIP."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo("imagenet-1k")
    return dict(zip(info.label_names(), IMAGENET_CLASSNAMES, strict=True))
