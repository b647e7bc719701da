"""Graph knowledge distillation: align graphs of samples, class proxies, channels and embeddings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkd import functional as functional
    from graphkd.alignments import Alignment as Alignment
    from graphkd.data.batch import Batch as Batch
    from graphkd.data.embed import embed as embed
    from graphkd.data.folders import open_folder as open_folder
    from graphkd.data.store import EmbeddingStore as EmbeddingStore
    from graphkd.data.views import Views as Views
    from graphkd.distillers.base import Distiller as Distiller
    from graphkd.distillers.crg import CRGDistiller as CRGDistiller
    from graphkd.distillers.ega import EGADistiller as EGADistiller
    from graphkd.distillers.eikd import EIKDDistiller as EIKDDistiller
    from graphkd.distillers.factory import create_distiller as create_distiller
    from graphkd.distillers.prg import PRGDistiller as PRGDistiller
    from graphkd.edges import Edges as Edges
    from graphkd.embedding_head import EmbeddingHead as EmbeddingHead
    from graphkd.errors import GraphKDError as GraphKDError
    from graphkd.features import Features as Features
    from graphkd.graph import Graph as Graph
    from graphkd.losses import Losses as Losses
    from graphkd.ops import backend as backend
    from graphkd.step import Step as Step
    from graphkd.students import create_student as create_student
    from graphkd.tap import Tap as Tap
    from graphkd.teachers.classifier import ClassifierTeacher as ClassifierTeacher
    from graphkd.teachers.clip import CLIPTeacher as CLIPTeacher
    from graphkd.training.config import TrainConfig as TrainConfig
    from graphkd.training.loop import Trainer as Trainer

__version__ = "0.1.0"

_HOME = {
    "Alignment": "graphkd.alignments",
    "Batch": "graphkd.data.batch",
    "CLIPTeacher": "graphkd.teachers.clip",
    "CRGDistiller": "graphkd.distillers.crg",
    "ClassifierTeacher": "graphkd.teachers.classifier",
    "Distiller": "graphkd.distillers.base",
    "EGADistiller": "graphkd.distillers.ega",
    "EIKDDistiller": "graphkd.distillers.eikd",
    "Edges": "graphkd.edges",
    "EmbeddingHead": "graphkd.embedding_head",
    "EmbeddingStore": "graphkd.data.store",
    "Features": "graphkd.features",
    "Graph": "graphkd.graph",
    "GraphKDError": "graphkd.errors",
    "Losses": "graphkd.losses",
    "PRGDistiller": "graphkd.distillers.prg",
    "Step": "graphkd.step",
    "Tap": "graphkd.tap",
    "TrainConfig": "graphkd.training.config",
    "Trainer": "graphkd.training.loop",
    "Views": "graphkd.data.views",
    "backend": "graphkd.ops",
    "create_distiller": "graphkd.distillers.factory",
    "create_student": "graphkd.students",
    "embed": "graphkd.data.embed",
    "open_folder": "graphkd.data.folders",
}

_MODULES = ("functional",)

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import graphkd`` costs nothing."""
    if name in _MODULES:
        return import_module(f"graphkd.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'graphkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
