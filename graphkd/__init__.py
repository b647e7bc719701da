"""Graph knowledge distillation: align graphs of samples, class proxies, channels and embeddings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkd.alignments import Alignment as Alignment
    from graphkd.data.batch import Batch as Batch
    from graphkd.distillers.base import Distiller as Distiller
    from graphkd.distillers.prg import PRGDistiller as PRGDistiller
    from graphkd.edges import Edges as Edges
    from graphkd.errors import GraphKDError as GraphKDError
    from graphkd.features import Features as Features
    from graphkd.graph import Graph as Graph
    from graphkd.losses import Losses as Losses
    from graphkd.ops import backend as backend
    from graphkd.step import Step as Step

__version__ = "0.1.0"

_HOME = {
    "Alignment": "graphkd.alignments",
    "Batch": "graphkd.data.batch",
    "Distiller": "graphkd.distillers.base",
    "Edges": "graphkd.edges",
    "Features": "graphkd.features",
    "Graph": "graphkd.graph",
    "GraphKDError": "graphkd.errors",
    "Losses": "graphkd.losses",
    "PRGDistiller": "graphkd.distillers.prg",
    "Step": "graphkd.step",
    "backend": "graphkd.ops",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import graphkd`` costs nothing."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'graphkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
