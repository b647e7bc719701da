"""Graph knowledge distillation: align graphs of samples, class proxies, channels and embeddings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Batch": "graphkd.data.batch",
    "Features": "graphkd.features",
    "GraphKDError": "graphkd.errors",
    "Losses": "graphkd.losses",
}

if TYPE_CHECKING:
    from graphkd.data.batch import Batch as Batch
    from graphkd.errors import GraphKDError as GraphKDError
    from graphkd.features import Features as Features
    from graphkd.losses import Losses as Losses

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import graphkd`` costs nothing."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in ("functional",):
        return import_module(f"graphkd.{name}")
    raise AttributeError(f"module 'graphkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
